package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// MetadataURL is where every VM of Azure reaches its host ("Azure Instance Metadata
// Service", learn.microsoft.com). The address is link-local: nobody else is there.
const MetadataURL = "http://169.254.169.254"

// What is asked for there: certificates of AMD ("Trusted Hardware Identity
// Management") and a quote for a TDREPORT.
const (
	pathVCEK    = "/metadata/THIM/amd/certification"
	pathTDQuote = "/acc/tdquote"
)

// Bounds of a request.
const (
	metadataTimeout = 15 * time.Second // of one try
	metadataTries   = 3
	metadataPause   = time.Second // the service asks for it when it is busy
	maxMetadata     = 128 << 10   // bytes of an answer
)

// metadata is the host's metadata service. What it says is evidence or a
// certificate: nothing here believes it.
type metadata struct {
	base string
	http *http.Client
}

// newMetadata returns a client that goes straight to the host: through no proxy and
// after no redirect, for both would show others what is asked.
func newMetadata(base string) *metadata {
	if base == "" {
		base = MetadataURL
	}
	return &metadata{base: strings.TrimSuffix(base, "/"), http: &http.Client{
		Timeout:       metadataTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// vcek returns the certificate of this VM's chip and AMD's that issued it, in DER.
func (m *metadata) vcek(ctx context.Context) ([][]byte, error) {
	const op = "ask the host for the VCEK"
	var answer struct {
		VCEK  string `json:"vcekCert"`
		Chain string `json:"certificateChain"`
	}
	if err := m.ask(ctx, http.MethodGet, pathVCEK, nil, &answer); err != nil {
		return nil, unavailable(op, err)
	}
	if !strings.Contains(answer.VCEK, "-----BEGIN") {
		return nil, unavailable(op, errors.New("the answer has no certificate"))
	}
	certs, err := parseCertificates(answer.VCEK + "\n" + answer.Chain)
	if err != nil {
		return nil, unavailable(op, err)
	}
	return certs, nil
}

// tdQuote returns the quote for a TDREPORT.
func (m *metadata) tdQuote(ctx context.Context, report []byte) ([]byte, error) {
	const op = "ask the host for a TD quote"
	body, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(report)})
	if err != nil {
		return nil, unavailable(op, err)
	}
	var answer struct {
		Quote string `json:"quote"`
	}
	if err := m.ask(ctx, http.MethodPost, pathTDQuote, body, &answer); err != nil {
		return nil, unavailable(op, err)
	}
	quote, err := decodeBase64URL(answer.Quote)
	if err == nil && len(quote) == 0 {
		err = errors.New("the answer has no quote")
	}
	if err != nil {
		return nil, unavailable(op, err)
	}
	return quote, nil
}

// ask makes a request, again while the service is busy, and reads the JSON of the
// answer.
func (m *metadata) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	for try := 1; ; try++ {
		status, b, err := m.try(ctx, method, path, body)
		busy := err == nil && (status == http.StatusTooManyRequests || status >= 500)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			return json.Unmarshal(b, answer)
		case !busy || try == metadataTries:
			return fmt.Errorf("the host's metadata service says %d to %s", status, path)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(metadataPause):
		}
	}
}

func (m *metadata) try(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, m.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Metadata", "true") // says that no browser was tricked into asking
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := m.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxMetadata+1))
	if err != nil {
		return 0, nil, err
	}
	if len(b) > maxMetadata {
		return 0, nil, fmt.Errorf("the host's metadata service answers with more than %d bytes", maxMetadata)
	}
	return response.StatusCode, b, nil
}

func unavailable(op string, err error) error {
	return &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err, Hint: "the VM has to reach " + MetadataURL + " (Azure Instance Metadata Service)"}
}
