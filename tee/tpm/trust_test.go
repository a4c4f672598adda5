package tpm_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

func TestCertificates(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	root := tpmtest.NewAuthority(t, "maker", nil, tpmtest.CertificateOptions{})
	issuer := tpmtest.NewAuthority(t, "maker's issuer", root, tpmtest.CertificateOptions{})
	certificate := issuer.Certify(t, c.Key.Public(), tpmtest.CertificateOptions{})
	bare := evidence(t, quoted(c))
	refuses(t, bare, root.Input(), tee.CodeChain)
	for name, ev := range map[string]tee.Evidence{
		"beside":           {Kind: tee.TPM, Data: bare.Data, Certificates: [][]byte{root.Certificate.Raw, issuer.Certificate.Raw, certificate}},
		"in statement":     {Kind: tee.TPM, Data: evidence(t, with(quoted(c), certificate, true)).Data, Certificates: [][]byte{issuer.Certificate.Raw}},
		"without a public": {Kind: tee.TPM, Data: evidence(t, with(quoted(c), certificate, false)).Data, Certificates: [][]byte{issuer.Certificate.Raw}},
	} {
		t.Run(name, func(t *testing.T) {
			claims, findings := verifies(t, ev, root.Input())
			if claims.Vendor["ak_trust"] != "certificate" || len(findings) != 1 || findings[0].Code != tee.CodeRevocationUnknown {
				t.Errorf("claims %v, findings %v", claims.Vendor, findings)
			}
			in := root.Input()
			in.Endorsements.Certificates, ev.Certificates = ev.Certificates, nil
			verifies(t, ev, in)
			in.Endorsements.CRLs = [][]byte{root.CRL(t), issuer.CRL(t)}
			if _, findings := verifies(t, ev, in); len(findings) > 0 {
				t.Errorf("findings %v with all lists", findings)
			}
		})
	}
}

// with puts a certificate into a statement, beside or in place of the public area.
func with(s *tpm.Statement, certificate []byte, public bool) *tpm.Statement {
	s.AKCertificate = certificate
	if !public {
		s.AKPublic = nil
	}
	return s
}

func TestRefusesCertificates(t *testing.T) {
	c, other := chip(t, tpm.ECDSA), tpmtest.New(t, tpm.ECDSA)
	root := tpmtest.NewAuthority(t, "maker", nil, tpmtest.CertificateOptions{})
	lookAlike := tpmtest.NewAuthority(t, "maker", nil, tpmtest.CertificateOptions{})
	past := tpmtest.CertificateOptions{To: tpmtest.At.Add(-time.Second)}
	pastIssuer := tpmtest.NewAuthority(t, "past", root, past)
	good := root.Certify(t, c.Key.Public(), tpmtest.CertificateOptions{})
	parsed, err := x509.ParseCertificate(good)
	if err != nil {
		t.Fatal(err)
	}
	crl := func(lists ...[]byte) tee.Input {
		in := root.Input()
		in.Endorsements.CRLs = lists
		return in
	}
	late := root.Input()
	late.At = tpmtest.At.AddDate(0, 0, 7)
	late.Endorsements.CRLs = [][]byte{root.CRL(t)}
	certify := func(o tpmtest.CertificateOptions) []byte { return root.Certify(t, c.Key.Public(), o) }
	for name, x := range map[string]struct {
		certificate []byte
		in          tee.Input
		codes       []tee.Code
	}{
		"no roots":             {good, tee.Input{At: tpmtest.At}, []tee.Code{tee.CodeChain}},
		"nil root":             {good, tee.Input{At: tpmtest.At, Roots: tee.Roots{nil}}, []tee.Code{tee.CodeChain}},
		"no time":              {good, tee.Input{Roots: tee.Roots{root.Certificate}}, []tee.Code{tee.CodeTime}},
		"look-alike root":      {good, lookAlike.Input(), []tee.Code{tee.CodeChain}},
		"other key":            {root.Certify(t, other.Key.Public(), tpmtest.CertificateOptions{}), root.Input(), []tee.Code{tee.CodeBinding, tee.CodeChain}},
		"expired":              {certify(past), root.Input(), []tee.Code{tee.CodeExpired}},
		"of the future":        {certify(tpmtest.CertificateOptions{From: tpmtest.At.Add(time.Second)}), root.Input(), []tee.Code{tee.CodeExpired}},
		"expired issuer":       {pastIssuer.Certify(t, c.Key.Public(), tpmtest.CertificateOptions{}), root.Input(), []tee.Code{tee.CodeExpired}},
		"for encryption":       {certify(tpmtest.CertificateOptions{KeyUsage: x509.KeyUsageKeyEncipherment}), root.Input(), []tee.Code{tee.CodeChain}},
		"for another purpose":  {certify(tpmtest.CertificateOptions{Purposes: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}}}), root.Input(), []tee.Code{tee.CodeChain}},
		"authority":            {certify(tpmtest.CertificateOptions{CA: true}), root.Input(), []tee.Code{tee.CodeChain}},
		"revoked":              {good, crl(root.CRL(t, parsed)), []tee.Code{tee.CodeRevoked}},
		"list of a look-alike": {good, crl(lookAlike.CRL(t), root.CRL(t)), []tee.Code{tee.CodeSignature}},
		"list is none":         {good, crl([]byte{0x30, 0}), []tee.Code{tee.CodeParse}},
		"many lists":           {good, crl(make([][]byte, 17)...), []tee.Code{tee.CodeParse}},
		"old list":             {good, late, []tee.Code{tee.CodeCollateralExpired}},
	} {
		t.Run(name, func(t *testing.T) {
			ev := evidence(t, with(quoted(c), x.certificate, true))
			ev.Certificates = [][]byte{pastIssuer.Certificate.Raw}
			refuses(t, ev, x.in, x.codes...)
		})
	}
	ev := evidence(t, with(quoted(c), good, true))
	ev.Certificates = slices.Repeat([][]byte{good}, 17)
	refuses(t, ev, root.Input(), tee.CodeParse)
}

func TestTrustedAK(t *testing.T) {
	c, other := chip(t, tpm.ECDSA), tpmtest.New(t, tpm.ECDSA)
	ev := evidence(t, quoted(c))
	in := c.Input(t)
	in.Endorsements.Collateral = tpmtest.TrustedAK(t, other, c)
	verifies(t, ev, in)
	pem := in.Endorsements.Collateral[tpm.TrustedAK]
	for name, x := range map[string]struct {
		document []byte
		codes    []tee.Code
	}{
		"another key":    {tpmtest.TrustedAK(t, other)[tpm.TrustedAK], []tee.Code{tee.CodeChain}},
		"empty":          {[]byte{}, []tee.Code{tee.CodeParse, tee.CodeChain}},
		"no PEM":         {[]byte("key"), []tee.Code{tee.CodeParse, tee.CodeChain}},
		"text after it":  {append(bytes.Clone(pem), "and more"...), []tee.Code{tee.CodeParse, tee.CodeChain}},
		"private key":    {bytes.ReplaceAll(pem, []byte("PUBLIC"), []byte("PRIVATE")), []tee.Code{tee.CodeParse, tee.CodeChain}},
		"many keys":      {bytes.Repeat(pem, 600), []tee.Code{tee.CodeParse, tee.CodeChain}},
		"too long":       {make([]byte, 1<<20+1), []tee.Code{tee.CodeParse, tee.CodeChain}},
		"broken content": {bytes.Replace(pem, []byte("MFk"), []byte("AAA"), 1), []tee.Code{tee.CodeParse, tee.CodeChain}},
	} {
		t.Run(name, func(t *testing.T) {
			in.Endorsements.Collateral = map[string][]byte{tpm.TrustedAK: x.document}
			refuses(t, ev, in, x.codes...)
		})
	}
	refuses(t, ev, tee.Input{}, tee.CodeTime, tee.CodeChain)
}
