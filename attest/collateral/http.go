package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ErrUnavailable means that a vendor's service did not give what was asked for:
// it is down, it limits the rate, or it does not know the platform. Try again
// later; what is in the cache stays good until its next update.
var ErrUnavailable = errors.New("the vendor's service has no answer")

// get fetches one document.
func get(ctx context.Context, c *http.Client, url string) ([]byte, http.Header, error) {
	if c == nil {
		return nil, nil, errors.New("no HTTP client was given")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnavailable, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(b) > MaxFile {
		return nil, nil, fmt.Errorf("%w: more than %d bytes", ErrUnavailable, MaxFile)
	}
	return b, resp.Header, nil
}
