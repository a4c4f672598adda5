package nitro

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
)

// MaxNSMRequest and MaxNSMResponse are the largest messages of the NSM device in
// bytes (Linux, drivers/misc/nsm.c).
const (
	MaxNSMRequest  = 0x1000
	MaxNSMResponse = 0x3000
)

// NSM is the Nitro security module: the device that an enclave has. It answers a
// request in CBOR with a response in CBOR. [Open] returns the real one; tests
// give their own.
type NSM interface {
	// Exchange sends a request and returns the response, at most MaxNSMResponse
	// bytes.
	Exchange(request []byte) ([]byte, error)
	io.Closer
}

// Attester asks the NSM for attestation documents. It is safe for concurrent use;
// requests take turns.
type Attester struct {
	mu  sync.Mutex
	nsm NSM
}

// NewAttester returns an attester that uses nsm, and closes it when it is closed.
func NewAttester(nsm NSM) *Attester { return &Attester{nsm: nsm} }

// Kind is tee.Nitro.
func (a *Attester) Kind() tee.Kind { return tee.Nitro }

// Close closes the device.
func (a *Attester) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.nsm.Close()
}

// Request is what a document is to carry beside what the NSM puts in: at most 512
// bytes of user data and of a nonce, and a public key of at most 1024. Nil leaves
// a field out.
type Request struct {
	UserData  []byte `cbor:"user_data"`
	Nonce     []byte `cbor:"nonce"`
	PublicKey []byte `cbor:"public_key"`
}

// Evidence returns a document with reportData as user data. Errors are those of
// [Attester.Document].
func (a *Attester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	d, err := a.Document(ctx, Request{UserData: reportData[:]})
	if err != nil {
		return tee.Evidence{}, err
	}
	return tee.Evidence{Kind: tee.Nitro, Data: d}, nil
}

// Document returns a document with the given fields. The error is a *tee.Error:
// CodeParse when a field is too long, CodeUnavailable when the NSM does not
// answer or answers with an error.
func (a *Attester) Document(ctx context.Context, r Request) ([]byte, error) {
	const op = "ask NSM for a document"
	fail := func(code tee.Code, cause error) ([]byte, error) {
		return nil, &tee.Error{Code: code, Op: op, Err: cause}
	}
	if err := ctx.Err(); err != nil {
		return fail(tee.CodeUnavailable, err)
	}
	if len(r.UserData) > maxUserData || len(r.Nonce) > maxNonce || len(r.PublicKey) > maxPublicKey {
		return fail(tee.CodeParse, fmt.Errorf("user data and nonce have at most %d bytes, the public key %d", maxUserData, maxPublicKey))
	}
	request, err := cbor.Marshal(map[string]Request{"Attestation": r})
	if err != nil {
		return fail(tee.CodeParse, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	response, err := a.nsm.Exchange(request)
	if err != nil {
		return fail(tee.CodeUnavailable, err)
	}
	d, err := readResponse(response)
	if err != nil {
		return fail(tee.CodeUnavailable, err)
	}
	if !New().Detect(d) {
		return fail(tee.CodeUnavailable, errors.New("the NSM gave something that is no attestation document"))
	}
	return d, nil
}

// response is the NSM's answer: a map of one entry, the document or an error.
type response struct {
	Attestation *struct {
		Document []byte `cbor:"document"`
	}
	Error *string
}

func readResponse(b []byte) ([]byte, error) {
	var r response
	if len(b) > MaxNSMResponse {
		return nil, fmt.Errorf("response of %d bytes", len(b))
	}
	if err := decoding().Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	switch {
	case r.Error != nil:
		return nil, fmt.Errorf("the NSM says %.64q", *r.Error)
	case r.Attestation == nil:
		return nil, errors.New("response has neither a document nor an error")
	}
	return r.Attestation.Document, nil
}

// Interface guard.
var _ tee.Attester = (*Attester)(nil)
