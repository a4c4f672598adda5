//go:build linux

package software

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

func TestChainRefuses(t *testing.T) {
	p := newPlatform(t)
	rootKey, root, err := keyAndCertificate(p.fuses.RootKey, p.fuses.RootCertificate)
	if err != nil {
		t.Fatal(err)
	}
	leaf := newKey(t)
	issue := func(parent *x509.Certificate, parentKey *ecdsa.PrivateKey, change func(*x509.Certificate)) []byte {
		c := must(template("forged", time.Now()))
		c.KeyUsage, c.UnknownExtKeyUsage = x509.KeyUsageDigitalSignature, []asn1.ObjectIdentifier{oidAttest}
		change(c)
		return must(x509.CreateCertificate(rand.Reader, c, parent, &leaf.PublicKey, parentKey))
	}
	same := func(*x509.Certificate) {}
	platform := must(x509.ParseCertificate(p.Info().PlatformCertificate))
	lookAlike := must(x509.ParseCertificate(must(issueRoot(leaf, time.Now()))))
	caKey := newKey(t)
	caTemplate := must(template("intermediate", time.Now()))
	caTemplate.IsCA, caTemplate.KeyUsage = true, x509.KeyUsageCertSign
	ca := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, caTemplate, root, &caKey.PublicKey, rootKey))))
	cases := []struct {
		name string
		der  []byte
		code tee.Code
	}{
		{"issued by the leaf", issue(platform, p.attestationKey(), same), tee.CodeChain},
		{"issued by a look-alike root", issue(lookAlike, leaf, same), tee.CodeChain},
		{"issued by an intermediate", issue(ca, caKey, same), tee.CodeChain},
		{"is a CA", issue(root, rootKey, func(c *x509.Certificate) { c.IsCA = true }), tee.CodeChain},
		{"no basic constraints", issue(root, rootKey, func(c *x509.Certificate) { c.BasicConstraintsValid = false }), tee.CodeChain},
		{"may sign certificates", issue(root, rootKey, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), tee.CodeChain},
		{"no purpose", issue(root, rootKey, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), tee.CodeChain},
		{"server certificate", issue(root, rootKey, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), tee.CodeChain},
		{"any purpose", issue(root, rootKey, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), tee.CodeChain},
		{"unknown critical extension", issue(root, rootKey, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), tee.CodeChain},
		{"expired", issue(root, rootKey, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), tee.CodeExpired},
	}
	if _, f := verifyChain(issue(root, rootKey, same), rootsOf(t, p), time.Now()); f != nil {
		t.Fatalf("the unchanged certificate is refused: %v", f)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, f := verifyChain(c.der, rootsOf(t, p), time.Now()); f == nil || f.Code != c.code {
				t.Errorf("got %v, want %s", f, c.code)
			}
		})
	}
}

func TestChainCache(t *testing.T) {
	rootKey := newKey(t)
	now := time.Now()
	root := must(x509.ParseCertificate(must(issueRoot(rootKey, now))))
	var c chainCache
	var first []byte
	for i := range maxChains + 10 {
		tmpl := must(template("platform", now))
		tmpl.SerialNumber = big.NewInt(int64(i + 1))
		tmpl.KeyUsage, tmpl.UnknownExtKeyUsage = x509.KeyUsageDigitalSignature, []asn1.ObjectIdentifier{oidAttest}
		tmpl.NotAfter = now.Add(time.Hour)
		der := must(x509.CreateCertificate(rand.Reader, tmpl, root, &rootKey.PublicKey, rootKey))
		if i == 0 {
			first = der
		}
		if _, f := c.lookup(der, tee.Roots{root}, now); f != nil {
			t.Fatal(f)
		}
		if len(c.keys) > maxChains || len(c.keys) != len(c.order) {
			t.Fatalf("%d keys and %d in order, at most %d", len(c.keys), len(c.order), maxChains)
		}
	}
	// Remembered or not, the time counts.
	for range 2 {
		if _, f := c.lookup(first, tee.Roots{root}, now.Add(2*time.Hour)); f == nil || f.Code != tee.CodeExpired {
			t.Fatalf("got %v, want expired", f)
		}
		if _, f := c.lookup(first, tee.Roots{root}, now); f != nil {
			t.Fatal(f)
		}
	}
}
