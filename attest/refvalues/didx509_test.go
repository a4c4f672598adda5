package refvalues_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/refvalues"
)

func sha512Of(b []byte) []byte {
	sum := sha512.Sum512(b)
	return sum[:]
}

func resolve(did string, chain [][]byte, at time.Time) (crypto.PublicKey, error) {
	d, err := refvalues.ParseDIDX509(did)
	if err != nil {
		return nil, err
	}
	return d.Resolve(chain, at)
}

// otherwise are the cases of the specification that go another way here.
func otherwise() map[string]string {
	const predicate, url = "a predicate that is not supported", "an issuer is not a DID URL"
	return map[string]string{
		"fulcio-issuer-extension-is-accepted-when-not-critical": predicate,
		"fulcio-issuer-with-email-san":                          predicate,
		"fulcio-issuer-with-uri-san":                            predicate,
		"specification-fulcio-issuer-and-san":                   predicate,
		"san":                                                   predicate,
		"san-within-permitted-subtree":                          predicate,
		"did-url-fragment-is-removed-from-document-id":          url,
		"key-agreement-only-leaf":                               "who signs needs a key for signatures",
		// The one that is accepted here: the predicate asks for the subject, and
		// nothing reads alternative names.
		"unsupported-certificate-san-type": "alternative names are not read",
	}
}

// TestDIDX509Vectors has the cases of the specification.
func TestDIDX509Vectors(t *testing.T) {
	b, err := os.ReadFile("testdata/didx509.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Certificates []string
		Cases        []struct {
			ID, DID string
			Chain   []int
			Refused bool
		}
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors.Cases) != 58 {
		t.Fatal(err, len(vectors.Cases))
	}
	for _, c := range vectors.Cases {
		var chain [][]byte
		for _, n := range c.Chain {
			der, err := base64.RawURLEncoding.DecodeString(vectors.Certificates[n])
			if err != nil {
				t.Fatal(err)
			}
			chain = append(chain, der)
		}
		key, err := resolve(c.DID, chain, time.Time{})
		_, differs := otherwise()[c.ID]
		if refused := err != nil; refused == (c.Refused == differs) || refused != (key == nil) {
			t.Errorf("%s: %v, %v; refused by the specification: %v", c.ID, key, err, c.Refused)
		}
	}
}

func TestDIDX509Accepts(t *testing.T) {
	sub512 := func(a *authority) string {
		return "did:x509:0:sha512:" + base64.RawURLEncoding.EncodeToString(sha512Of(a.sub.cert.Raw)) + "::eku:" + usage
	}
	limited := func(usage ...x509.ExtKeyUsage) func(root, sub, leaf *x509.Certificate) {
		return func(_, sub, _ *x509.Certificate) { sub.ExtKeyUsage = usage }
	}
	for name, c := range map[string]struct {
		change func(root, sub, leaf *x509.Certificate)
		did    func(*authority) string
		chain  func(*authority) [][]byte
	}{
		"root":             {},
		"intermediate":     {did: func(a *authority) string { return did(a.sub) }},
		"without root":     {did: func(a *authority) string { return did(a.sub) }, chain: func(a *authority) [][]byte { return a.chain()[:2] }},
		"SHA-512":          {did: sub512},
		"subject":          {did: func(a *authority) string { return did(a.root, "subject:CN:leaf:O:Example%20%26%20Co", "eku:"+usage) }},
		"just deep enough": {change: func(root, _, _ *x509.Certificate) { root.MaxPathLen = 1 }},
		"any usage":        {change: limited(x509.ExtKeyUsageAny)},
		"that usage": {change: func(_, sub, leaf *x509.Certificate) {
			sub.ExtKeyUsage, sub.UnknownExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, leaf.UnknownExtKeyUsage
		}},
		"usages do not matter": {change: limited(x509.ExtKeyUsageServerAuth), did: func(a *authority) string { return did(a.root, "subject:CN:leaf") }},
		"no key usage":         {change: func(_, _, leaf *x509.Certificate) { leaf.KeyUsage = 0 }},
		"a moment together":    {change: func(_, sub, leaf *x509.Certificate) { leaf.NotBefore, sub.NotAfter = at, at }},
	} {
		a := newAuthority(t, c.change)
		id, chain := did(a.root), a.chain()
		if c.did != nil {
			id = c.did(a)
		}
		if c.chain != nil {
			chain = c.chain(a)
		}
		for _, when := range []time.Time{{}, at} {
			key, err := resolve(id, chain, when)
			if err != nil || !a.leaf.cert.PublicKey.(*ecdsa.PublicKey).Equal(key) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// extend adds an extension.
func extend(c *x509.Certificate, critical bool, oid ...int) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: []byte{0x30, 0}})
}

func TestDIDX509RefusesCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		change func(root, sub, leaf *x509.Certificate)
		says   string
	}{
		"other usage": {func(_, _, leaf *x509.Certificate) {
			leaf.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 76, 59, 1}}
		}, "usage"},
		"any usage is not that": {func(_, _, leaf *x509.Certificate) {
			leaf.UnknownExtKeyUsage, leaf.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		}, "usage"},
		"no usage":               {func(_, _, leaf *x509.Certificate) { leaf.UnknownExtKeyUsage = nil }, "usage"},
		"authority of others":    {func(_, sub, _ *x509.Certificate) { sub.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, "other extended key usages"},
		"root of others":         {func(root, _, _ *x509.Certificate) { root.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, "other extended key usages"},
		"no CA flag":             {func(_, sub, _ *x509.Certificate) { sub.IsCA = false }, "authority"},
		"no basic constraints":   {func(_, sub, _ *x509.Certificate) { sub.BasicConstraintsValid, sub.IsCA = false, false }, "authority"},
		"root is no CA":          {func(root, _, _ *x509.Certificate) { root.IsCA = false }, "authority"},
		"may not certify":        {func(_, sub, _ *x509.Certificate) { sub.KeyUsage = x509.KeyUsageDigitalSignature }, "authority"},
		"too deep":               {func(root, _, _ *x509.Certificate) { root.MaxPathLenZero = true }, "below"},
		"signer is a CA":         {func(_, _, leaf *x509.Certificate) { leaf.IsCA = true }, "signer"},
		"signer may not sign":    {func(_, _, leaf *x509.Certificate) { leaf.KeyUsage = x509.KeyUsageKeyAgreement }, "signatures"},
		"never together":         {func(_, sub, leaf *x509.Certificate) { leaf.NotBefore, sub.NotAfter = at.Add(time.Second), at }, "together"},
		"root was too late":      {func(root, _, _ *x509.Certificate) { root.NotBefore = at.Add(time.Second) }, "signed at"},
		"signer was too late":    {func(_, _, leaf *x509.Certificate) { leaf.NotBefore = at.Add(time.Second) }, "signed at"},
		"signer was too early":   {func(_, _, leaf *x509.Certificate) { leaf.NotAfter = at.Add(-time.Second) }, "signed at"},
		"names constrained":      {func(root, _, _ *x509.Certificate) { root.PermittedDNSDomains = []string{"example.com"} }, "constraints"},
		"policies constrained":   {func(_, sub, _ *x509.Certificate) { extend(sub, false, 2, 5, 29, 36) }, ""},
		"critical of a signer":   {func(_, _, leaf *x509.Certificate) { extend(leaf, true, 1, 2, 3) }, "critical"},
		"critical of a CA":       {func(_, sub, _ *x509.Certificate) { extend(sub, true, 1, 2, 3) }, "critical"},
		"critical of the root":   {func(root, _, _ *x509.Certificate) { extend(root, true, 1, 2, 3) }, "critical"},
		"critical, but standard": {func(_, _, leaf *x509.Certificate) { extend(leaf, true, 2, 5, 29, 31) }, ""},
	} {
		a := newAuthority(t, c.change)
		key, err := resolve(did(a.root), a.chain(), at)
		if key != nil || !errors.Is(err, refvalues.ErrNotTrusted) && !errors.Is(err, refvalues.ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
}

// TestDIDX509RefusesChains has chains of certificates that are all fine.
func TestDIDX509RefusesChains(t *testing.T) {
	a, b := newAuthority(t, nil), newAuthority(t, nil)
	renamed := certify(t, a.leaf.key, &certified{a.sub.key, template("other", true)}, template("leaf", false))
	leaf, sub, root := a.leaf.cert.Raw, a.sub.cert.Raw, a.root.cert.Raw
	for name, c := range map[string]struct {
		did   string
		chain [][]byte
		says  string
	}{
		"fingerprint of the signer":  {did(a.leaf), a.chain(), "fingerprint"},
		"fingerprint of another":     {did(b.root), a.chain(), "fingerprint"},
		"fingerprint of the missing": {did(a.root), a.chain()[:2], "fingerprint"},
		"other subject":              {did(a.root, "subject:CN:sub"), a.chain(), "CN"},
		"attribute missing":          {did(a.root, "subject:L:leaf"), a.chain(), "L"},
		"one of two predicates":      {did(a.root, "eku:"+usage, "subject:CN:sub"), a.chain(), "CN"},
		"signed by another":          {did(b.root), [][]byte{leaf, b.sub.cert.Raw, b.root.cert.Raw}, "certificate 0 is not issued"},
		"authority of another":       {did(b.root), [][]byte{leaf, sub, b.root.cert.Raw}, "certificate 1 is not issued"},
		"issuer has another name":    {did(a.root), [][]byte{renamed.cert.Raw, sub, root}, "certificate 0 is not issued"},
		"gap":                        {did(a.root), [][]byte{leaf, root}, "certificate 0 is not issued"},
		"root appended":              {did(b.root), [][]byte{leaf, sub, root, b.root.cert.Raw}, "certificate 2 is not issued"},
		"other way round":            {did(a.sub), [][]byte{root, sub, leaf}, "authority"},
		"nothing":                    {did(a.root), nil, "0 certificates"},
		"root alone":                 {did(a.root), [][]byte{root}, "1 certificates"},
		"too long":                   {did(a.root), slices.Repeat([][]byte{leaf}, 9), "9 certificates"},
		"no certificate":             {did(a.root), [][]byte{leaf, {1, 2}, root}, "certificate 1"},
		"bytes after one":            {did(a.root), [][]byte{append(bytes.Clone(leaf), 0), sub, root}, "certificate 0"},
	} {
		if key, err := resolve(c.did, c.chain, at); key != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
	if key, err := (refvalues.DIDX509{}).Resolve(a.chain(), at); key != nil || !errors.Is(err, refvalues.ErrNotTrusted) {
		t.Errorf("zero value: %v, %v", key, err)
	}
}

// TestDIDX509RefusesRepeatedAttributes: which of the two would it be?
func TestDIDX509RefusesRepeatedAttributes(t *testing.T) {
	a := newAuthority(t, func(_, _, leaf *x509.Certificate) { leaf.Subject.OrganizationalUnit = []string{"one", "two"} })
	for _, unit := range []string{"one", "two"} {
		if _, err := resolve(did(a.root, "subject:OU:"+unit), a.chain(), at); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", unit, err)
		}
	}
	if _, err := resolve(did(a.root), a.chain(), at); err != nil {
		t.Errorf("who does not ask for the subject: %v", err)
	}
}

func TestDIDX509RefusesKeys(t *testing.T) {
	a := newAuthority(t, nil)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA of 1024 bits": weak, "RSA of 9001 bits": huge{}, "Ed25519": ed, "P-224": ecKey(t, elliptic.P224())} {
		leaf := certify(t, key, a.sub, template("leaf", false))
		if _, err := resolve(did(a.root), [][]byte{leaf.cert.Raw, a.sub.cert.Raw, a.root.cert.Raw}, at); err == nil || !strings.Contains(err.Error(), "key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// huge is a key that takes long to verify with.
type huge struct{ crypto.Signer }

func (huge) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 9000)
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
}

func TestParseDIDX509(t *testing.T) {
	good := refvalues.MicrosoftUVM().DID
	fingerprint := strings.Split(good, ":")[4]
	for name, s := range map[string]string{
		"empty": "", "other method": strings.Replace(good, "x509", "web", 1), "other version": strings.Replace(good, ":0:", ":1:", 1),
		"upper case": strings.Replace(good, "did:", "DID:", 1), "SHA-1": strings.Replace(good, "sha256", "sha1", 1),
		"hash of another size": strings.Replace(good, "sha256", "sha384", 1), "padded": strings.Replace(good, fingerprint, fingerprint+"=", 1),
		"other base64": strings.Replace(good, "__", "//", 1), "loose bits": strings.Replace(good, "9s::", "9t::", 1), "line break": strings.Replace(good, "iuL", "iu\nL", 1),
		"short fingerprint": strings.Replace(good, "I__", "", 1), "no predicate": strings.Split(good, "::")[0], "empty predicate": good + "::",
		"unknown predicate": good + "::ou:x", "san": good + "::san:dns:example.com", "fulcio": good + "::fulcio-issuer:example.com",
		"OID of letters": good + "::eku:codeSigning", "OID with zeros": good + "::eku:1.02.3", "no OID": good + "::eku:", "one arc": good + "::eku:1",
		"pairs": good + "::subject:CN", "no subject": good + "::subject:", "no value": good + "::subject:CN:", "twice": good + "::subject:CN:a:CN:a",
		"unknown attribute": good + "::subject:DC:a", "label as OID": good + "::subject:2.5.4.3:a", "not encoded": good + "::subject:CN:a b",
		"bad escape": good + "::subject:CN:%zz", "plus": good + "::subject:CN:a+b", "fragment": good + "#0", "path": good + "/x", "query": good + "?x",
		"too long": good + "::subject:CN:" + strings.Repeat("a", 1024), "many": good + strings.Repeat("::eku:1.2", 16),
	} {
		if d, err := refvalues.ParseDIDX509(s); !errors.Is(err, refvalues.ErrFormat) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	for _, s := range []string{good, good + strings.Repeat("::eku:1.2", 15), good + "::subject:CN:a%20b:1.2.840.113549.1.9.1:c%40d"} {
		if _, err := refvalues.ParseDIDX509(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}
