//go:build linux

// Package softwaretest gives other packages' tests a software TEE: a platform
// in a temporary directory, its roots, and a device for any launch document.
//
// It protects nothing and is for tests only; see package software for what its
// evidence is worth.
package softwaretest

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// Runtime is the runtime digest of every platform of this package, so that
// measurements in tests are stable: software.Expect(Runtime, digest).
var Runtime = [32]byte{'t', 'e', 's', 't'}

// Platform is a platform for one test. It is safe for concurrent use.
type Platform struct {
	*software.Platform
	// Roots are what a relying party must be given to verify its evidence.
	Roots tee.Roots
	// Dir is the platform's directory; [Open] on it after Close is a restart.
	Dir string

	launches atomic.Int64
}

// New starts a platform in a new temporary directory. It ends with the test.
func New(tb testing.TB) *Platform {
	tb.Helper()
	return Open(tb, filepath.Join(tb.TempDir(), "platform"))
}

// Open starts a platform in dir. It ends with the test, or with Close.
func Open(tb testing.TB, dir string) *Platform {
	tb.Helper()
	p, err := software.OpenPlatform(dir, software.Options{Runtime: Runtime})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	root, err := x509.ParseCertificate(p.Info().RootCertificate)
	if err != nil {
		tb.Fatal(err)
	}
	return &Platform{Platform: p, Roots: tee.Roots{root}, Dir: dir}
}

// Device launches a document and returns the TEE as its instance sees it. image
// is the image that the document names, nil for a builtin; signature that of a
// signed document, else nil. The instance is called test-1, test-2, and so on.
func (p *Platform) Device(tb testing.TB, doc launch.Document, image, signature []byte) *software.Device {
	tb.Helper()
	in := p.Instance(tb, doc, image, signature)
	f, err := in.Device()
	if err != nil {
		tb.Fatal(err)
	}
	d, err := software.OpenDevice(f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

// Instance is [Platform.Device] without the device in between.
func (p *Platform) Instance(tb testing.TB, doc launch.Document, image, signature []byte) *software.Instance {
	tb.Helper()
	b, err := doc.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	r := software.LaunchRequest{Document: b, Signature: signature, InstanceID: "test-" + strconv.FormatInt(p.launches.Add(1), 10)}
	if image != nil {
		r.Image = File(tb, image)
		defer r.Image.Close()
	}
	in, err := p.Launch(tb.Context(), r)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// File returns a temporary file with the given content.
func File(tb testing.TB, content []byte) *os.File {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}
