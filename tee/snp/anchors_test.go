package snp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// TestIssued has certificates whose signatures all verify, by issuers that must
// not have issued them.
func TestIssued(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	authority := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "parent"}, NotAfter: time.Now(), SignatureAlgorithm: x509.SHA384WithRSAPSS,
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
		change(c)
		return c
	}
	nothing := func(*x509.Certificate) {}
	for name, c := range map[string]struct {
		parent, child func(*x509.Certificate)
		good          bool
	}{
		"good":              {nothing, nothing, true},
		"no key usage":      {func(c *x509.Certificate) { c.KeyUsage = 0 }, nothing, false},
		"may sign lists":    {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, nothing, false},
		"not a CA":          {func(c *x509.Certificate) { c.IsCA = false }, nothing, false},
		"no constraints":    {func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }, nothing, false},
		"path length":       {func(c *x509.Certificate) { c.MaxPathLenZero = true }, nothing, false},
		"path length, leaf": {func(c *x509.Certificate) { c.MaxPathLenZero = true }, func(c *x509.Certificate) { c.IsCA = false }, true},
		"PKCS #1 v1.5":      {nothing, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }, false},
		"SHA-256":           {nothing, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }, false},
		"critical extension": {nothing, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, false},
	} {
		parent := create(t, key, authority(c.parent), nil)
		child := create(t, key, authority(func(x *x509.Certificate) { x.Subject.CommonName = "child"; c.child(x) }), parent)
		if err := issued(child, parent); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func create(t *testing.T, key *rsa.PrivateKey, template, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRemembersOnlyWhatAMDMade: a certificate that no anchor issued does not push
// others out.
func TestRemembersOnlyWhatAMDMade(t *testing.T) {
	report, err := os.ReadFile("testdata/milan-v3-report.bin")
	if err != nil {
		t.Fatal(err)
	}
	vcek, err := os.ReadFile("testdata/milan-v3-vcek.der")
	if err != nil {
		t.Fatal(err)
	}
	v := New()
	in := tee.Input{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	verify := func(certificate []byte, in tee.Input) error {
		_, _, err := v.Verify(tee.Evidence{Kind: tee.SNP, Data: report, Certificates: [][]byte{certificate}}, in)
		return err
	}
	forged := append([]byte(nil), vcek...)
	forged[len(forged)-1] ^= 1
	if err := verify(forged, in); err == nil || len(v.leaves.results) != 0 {
		t.Errorf("error %v, %d remembered: want a refusal and nothing", err, len(v.leaves.results))
	}
	if err := verify(vcek, in); err != nil || len(v.leaves.results) != 1 {
		t.Errorf("error %v, %d remembered", err, len(v.leaves.results))
	}
	// The embedded roots are for those who give none, not for those who give an
	// empty list.
	for _, roots := range []tee.Roots{{}, {nil}} {
		in.Roots = roots
		if err := verify(vcek, in); err == nil {
			t.Errorf("verified with the roots %v", roots)
		}
	}
}
