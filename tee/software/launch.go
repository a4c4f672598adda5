//go:build linux

package software

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// LaunchRequest is what the platform measures.
type LaunchRequest struct {
	// Document is the launch document in its canonical form (launch.Parse).
	Document []byte
	// Signature is the image signature of a signed document, else empty.
	Signature []byte
	// Image is the image that the document names, a regular file or a memfd of
	// at most launch.MaxImage bytes; nil for a builtin. It is read from its
	// beginning without moving its offset, and stays the caller's to close.
	// Whoever starts the image must see to it that it does not change
	// afterwards: seal a memfd, or have the instance hash it again.
	Image *os.File
	// InstanceID is the name that evidence carries, at most [MaxInstanceID]
	// bytes. The platform does not check that it is used once.
	InstanceID string
}

// Launch measures a launch and returns the handle of its instance: the only
// way to evidence and keys for that launch. Errors are *tee.Error: CodeParse
// (document, image size, instance id), CodeBinding (another image than the
// document names), CodeSignature, CodeUnavailable (platform closed or full,
// image unreadable, ctx done).
func (p *Platform) Launch(ctx context.Context, r LaunchRequest) (*Instance, error) {
	refuse := func(code tee.Code, err error) (*Instance, error) {
		return nil, &tee.Error{Code: code, Op: "launch on software TEE", Err: err}
	}
	doc, err := launch.Parse(r.Document)
	if err != nil {
		return refuse(tee.CodeParse, err)
	}
	if err := validName("instance id", r.InstanceID, MaxInstanceID); err != nil {
		return refuse(tee.CodeParse, err)
	}
	if code, err := checkImage(ctx, doc, r.Image); err != nil {
		return refuse(code, err)
	}
	if err := doc.CheckSignature(r.Signature); err != nil {
		return refuse(tee.CodeSignature, err)
	}
	digest := sha256.Sum256(r.Document)
	in := &Instance{p: p, doc: doc, missing: []string{wallsUnreported}, info: Info{
		Measurement:         Expect(p.runtime, digest),
		LaunchDigest:        digest,
		RuntimeDigest:       p.runtime,
		InstanceID:          r.InstanceID,
		RootCertificate:     p.fuses.RootCertificate,
		PlatformCertificate: p.fuses.PlatformCertificate,
	}}
	if err := p.admit(in); err != nil {
		return refuse(tee.CodeUnavailable, err)
	}
	p.logger.InfoContext(ctx, "instance measured",
		slog.String("instance", r.InstanceID), slog.String("measurement", in.info.Measurement.String()),
		slog.Bool("debug", doc.Debug), slog.Bool("simulated", true))
	return in, nil
}

// checkImage compares the image with the digest that the document names.
func checkImage(ctx context.Context, doc launch.Document, image *os.File) (tee.Code, error) {
	if doc.Image.Kind == launch.Builtin {
		if image != nil {
			return tee.CodeParse, errors.New("a builtin image takes no image file")
		}
		if want := launch.NewBuiltin(doc.Role).Image.Digest; !bytes.Equal(want, doc.Image.Digest) {
			return tee.CodeBinding, fmt.Errorf("role %q has another builtin image than the document names", doc.Role)
		}
		return "", nil
	}
	if image == nil {
		return tee.CodeParse, errors.New("the image is missing")
	}
	digest, code, err := hashImage(ctx, image)
	if err != nil {
		return code, err
	}
	if !bytes.Equal(digest, doc.Image.Digest) {
		return tee.CodeBinding, fmt.Errorf("image has SHA-256 %x, the document names %x", digest, doc.Image.Digest)
	}
	return "", nil
}

func hashImage(ctx context.Context, image *os.File) ([]byte, tee.Code, error) {
	st, err := image.Stat()
	if err != nil {
		return nil, tee.CodeUnavailable, fmt.Errorf("read image: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, tee.CodeParse, errors.New("the image is not a regular file")
	}
	h := sha256.New()
	// One byte more than allowed, so that a longer image is noticed even when it
	// grows while it is read.
	src := &contextReader{ctx, io.NewSectionReader(image, 0, launch.MaxImage+1)}
	n, err := io.CopyBuffer(h, src, make([]byte, 256<<10))
	switch {
	case err != nil:
		return nil, tee.CodeUnavailable, fmt.Errorf("read image: %w", err)
	case n == 0:
		return nil, tee.CodeParse, errors.New("the image is empty")
	case n > launch.MaxImage:
		return nil, tee.CodeParse, fmt.Errorf("the image is larger than %d bytes", launch.MaxImage)
	}
	return h.Sum(nil), "", nil
}

// contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
