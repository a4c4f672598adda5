//go:build linux

package software

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// TestCertifyTPM: the platform vouches for emulated TPMs as emulated, under its root, and
// its certificate is good for nothing else.
func TestCertifyTPM(t *testing.T) {
	p := newPlatform(t)
	path := socketPath(t)
	serve(t, p, path)
	c := must(Connect(path))
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	der, err := c.CertifyTPM(t.Context(), must(x509.MarshalPKIXPublicKey(&key.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	cert := must(x509.ParseCertificate(der))
	root := must(x509.ParseCertificate(c.Platform().RootCertificate))
	if err := cert.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if !tee.IsEmulatedTPM(cert) || tee.IsEmulatedTPM(root) || cert.IsCA || cert.KeyUsage != x509.KeyUsageKeyEncipherment || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("certificate %+v", cert)
	}
	if _, failure := verifyChain(der, tee.Roots{root}, time.Now()); failure == nil {
		t.Error("it is taken for a platform's")
	}
	short := must(rsa.GenerateKey(rand.Reader, 1024))
	curve := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, bad := range map[string]struct {
		key  []byte
		code tee.Code
	}{
		"nothing": {nil, tee.CodeParse}, "no key": {[]byte("key"), tee.CodeParse},
		"short": {must(x509.MarshalPKIXPublicKey(&short.PublicKey)), tee.CodeUnsupported}, "curve": {must(x509.MarshalPKIXPublicKey(&curve.PublicKey)), tee.CodeUnsupported},
	} {
		got, err := c.CertifyTPM(t.Context(), bad.key)
		if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != bad.code || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}
