//go:build linux

package software

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
	"golang.org/x/sys/unix"
)

// Client asks a platform in another process to measure launches. It holds no
// connection and needs no closing; it is safe for concurrent use.
type Client struct {
	path string
	info PlatformInfo
}

// Connect finds the platform that listens at path, of any length, and asks it
// for its certificates. When none answers within ten seconds the error is a
// *tee.Error with CodeUnavailable: start the platform.
func Connect(path string) (*Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := &Client{path: path}
	a, file, err := exchange[platformAnswer](ctx, path, "connect to software TEE platform", opPlatform, nothing{}, nil)
	if err != nil {
		return nil, err
	}
	if file != nil {
		file.Close()
	}
	c.info = a.info()
	return c, nil
}

// Platform returns the runtime digest and certificates that [Connect] got. The
// answer is the platform's word: a relying party takes root certificates from
// someone it trusts.
func (c *Client) Platform() PlatformInfo { return c.info }

// Launch has the platform measure a launch and returns its TEE device, to hand
// to the sandboxed child (then close it here: the instance ends when the last
// copy is closed). Errors are those of [Platform.Launch], and CodeUnavailable
// when the platform does not answer before ctx is done.
func (c *Client) Launch(ctx context.Context, r LaunchRequest) (device *os.File, info Info, err error) {
	const op = "launch on software TEE"
	body := launchCall{Document: r.Document, Signature: r.Signature, InstanceID: r.InstanceID}
	a, file, err := exchange[infoAnswer](ctx, c.path, op, opLaunch, body, r.Image)
	if err != nil {
		return nil, Info{}, err
	}
	if file == nil {
		return nil, Info{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: errors.New("the platform sent no device")}
	}
	return file, a.info(), nil
}

// CertifyTPM has the platform certify the endorsement key of an emulated TPM; see
// [Platform.CertifyTPM].
func (c *Client) CertifyTPM(ctx context.Context, key []byte) (certificate []byte, err error) {
	const op = "certify emulated TPM"
	a, file, err := exchange[certifyAnswer](ctx, c.path, op, opCertify, certifyCall{key}, nil)
	if file != nil {
		_ = file.Close()
	}
	return a.Certificate, err
}

// exchange makes one call on a connection of its own.
func exchange[T any](ctx context.Context, path, what, op string, body any, image *os.File) (T, *os.File, error) {
	var none T
	fail := func(err error) (T, *os.File, error) {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		e := &tee.Error{Code: tee.CodeUnavailable, Op: what, Err: err}
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
			e.Hint = "start the software TEE platform; it listens at " + path
		}
		return none, nil, e
	}
	request, err := encodeCall(op, body)
	if err != nil {
		return fail(err)
	}
	if len(request) > maxLaunchFrame {
		return none, nil, &tee.Error{Code: tee.CodeParse, Op: what, Err: fmt.Errorf("call of %d bytes, at most %d", len(request), maxLaunchFrame)}
	}
	c, err := unixsock.Dial(ctx, path)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := sendFile(c, request, image); err != nil {
		return fail(err)
	}
	reply, file, err := receiveFile(c, maxFrame)
	if err != nil {
		return fail(err)
	}
	result, err := decodeAnswer[T](reply, what)
	if err != nil {
		if file != nil {
			file.Close()
		}
		return none, nil, err
	}
	return result, file, nil
}

// encodeCall encodes a call with its body.
func encodeCall(op string, body any) ([]byte, error) {
	b, err := encode(body)
	if err != nil {
		return nil, err
	}
	return encode(call{Op: op, Body: b})
}

// decodeAnswer returns the result of an answer, or its failure as *tee.Error.
func decodeAnswer[T any](b []byte, what string) (T, error) {
	var none T
	a, err := decode[answer](b, maxFrame)
	if err != nil {
		return none, &tee.Error{Code: tee.CodeUnavailable, Op: what, Err: fmt.Errorf("parse answer: %w", err)}
	}
	if err := a.Failure.error(what); err != nil {
		return none, err
	}
	result, err := decode[T](a.Body, maxFrame)
	if err != nil {
		return none, &tee.Error{Code: tee.CodeUnavailable, Op: what, Err: fmt.Errorf("parse answer: %w", err)}
	}
	return result, nil
}
