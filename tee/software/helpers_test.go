//go:build linux

package software

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testImage   = []byte("\x00asm image")
	testRuntime = [32]byte{'t', 'e', 's', 't'}
)

// open opens a platform that the test closes, at the latest at its end.
func open(t testing.TB, dir string) *Platform {
	t.Helper()
	p, err := OpenPlatform(dir, Options{Runtime: testRuntime})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newPlatform(t testing.TB) *Platform {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "platform"))
}

func testDocument() launch.Document { return launch.New(launch.Wasm, testImage) }

// signedDocument returns testDocument signed for product 7 with an SVN.
func signedDocument(t testing.TB, key *ecdsa.PrivateKey, product, svn uint32) (launch.Document, []byte) {
	t.Helper()
	d := testDocument()
	sig, err := launch.SignImage(key, d.Image.Digest, product, svn)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = d.Signed(sig); err != nil {
		t.Fatal(err)
	}
	return d, sig
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func fileOf(t testing.TB, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func requestFor(t testing.TB, d launch.Document, sig []byte) LaunchRequest {
	t.Helper()
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := LaunchRequest{Document: b, Signature: sig, InstanceID: "i-1"}
	if d.Image.Kind != launch.Builtin {
		r.Image = fileOf(t, testImage)
	}
	return r
}

func start(t testing.TB, p *Platform, d launch.Document, sig []byte) *Instance {
	t.Helper()
	in, err := p.Launch(t.Context(), requestFor(t, d, sig))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func device(t testing.TB, in *Instance) *Device {
	t.Helper()
	f, err := in.Device()
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenDevice(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func rootsOf(t testing.TB, p *Platform) tee.Roots {
	t.Helper()
	c, err := x509.ParseCertificate(p.Info().RootCertificate)
	if err != nil {
		t.Fatal(err)
	}
	return tee.Roots{c}
}

func inputFor(t testing.TB, p *Platform) tee.Input {
	t.Helper()
	return tee.Input{Roots: rootsOf(t, p), At: time.Now()}
}

// wantCode checks the code of a *tee.Error.
func wantCode(t testing.TB, err error, code tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.Error](err)
	if !ok || e.Code != code {
		t.Fatalf("got %v, want a *tee.Error with code %s", err, code)
	}
}

// wantRefused checks the code of the first failure of a *tee.VerifyError.
func wantRefused(t testing.TB, claims tee.Claims, err error, code tee.Code) tee.Failure {
	t.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || e.Kind != tee.Software || e.Failures[0].Code != code {
		t.Fatalf("got %v, want a *tee.VerifyError with code %s", err, code)
	}
	if claims.TEE != "" || claims.Measurement != nil || claims.Vendor != nil {
		t.Fatalf("claims beside an error: %+v", claims)
	}
	return e.Failures[0]
}
