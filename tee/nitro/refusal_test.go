package nitro_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro/nitrotest"
	"github.com/fxamacker/cbor/v2"
)

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestRefusesFields has documents that a genuine enclave's key signed and that
// break a rule of AWS's specification.
func TestRefusesFields(t *testing.T) {
	aws, enclave := aws(t)
	cases := []struct {
		name   string
		change func(*nitrotest.Fields)
		code   tee.Code
	}{
		{"no module id", func(f *nitrotest.Fields) { f.ModuleID = "" }, tee.CodeParse},
		{"long module id", func(f *nitrotest.Fields) { f.ModuleID = strings.Repeat("x", 257) }, tee.CodeParse},
		{"module id with a line break", func(f *nitrotest.Fields) { f.ModuleID = "i-1\n" }, tee.CodeParse},
		{"no timestamp", func(f *nitrotest.Fields) { f.Timestamp = 0 }, tee.CodeParse},
		{"timestamp beyond numbers", func(f *nitrotest.Fields) { f.Timestamp = 1 << 63 }, tee.CodeParse},
		{"other digest", func(f *nitrotest.Fields) { f.Digest = "SHA256" }, tee.CodeUnsupported},
		{"no PCRs", func(f *nitrotest.Fields) { f.PCRs = nil }, tee.CodeParse},
		{"no PCR0", func(f *nitrotest.Fields) { delete(f.PCRs, 0) }, tee.CodeParse},
		{"PCR 32", func(f *nitrotest.Fields) { f.PCRs[32] = make([]byte, 48) }, tee.CodeParse},
		{"PCR of 32 bytes", func(f *nitrotest.Fields) { f.PCRs[1] = make([]byte, 32) }, tee.CodeParse},
		{"PCR0 empty", func(f *nitrotest.Fields) { f.PCRs[0] = []byte{} }, tee.CodeParse},
		{"no certificate", func(f *nitrotest.Fields) { f.Certificate = nil }, tee.CodeParse},
		{"long certificate", func(f *nitrotest.Fields) { f.Certificate = make([]byte, 1025) }, tee.CodeParse},
		{"no bundle", func(f *nitrotest.Fields) { f.CABundle = nil }, tee.CodeParse},
		{"long bundle", func(f *nitrotest.Fields) { f.CABundle = slices.Repeat(f.CABundle[:1], 9) }, tee.CodeParse},
		{"empty certificate in bundle", func(f *nitrotest.Fields) { f.CABundle[3] = nil }, tee.CodeParse},
		{"long certificate in bundle", func(f *nitrotest.Fields) { f.CABundle[3] = make([]byte, 1025) }, tee.CodeParse},
		{"empty public key", func(f *nitrotest.Fields) { f.PublicKey = []byte{} }, tee.CodeParse},
		{"long public key", func(f *nitrotest.Fields) { f.PublicKey = make([]byte, 1025) }, tee.CodeParse},
		{"long user data", func(f *nitrotest.Fields) { f.UserData = make([]byte, 513) }, tee.CodeParse},
		{"long nonce", func(f *nitrotest.Fields) { f.Nonce = make([]byte, 513) }, tee.CodeParse},
		{"certificate is none", func(f *nitrotest.Fields) { f.Certificate = []byte{0x30, 0} }, tee.CodeParse},
		{"root is none", func(f *nitrotest.Fields) { f.CABundle[0] = []byte{0x30, 0} }, tee.CodeParse},
		{"intermediate is none", func(f *nitrotest.Fields) { f.CABundle[2] = []byte{0x30, 0} }, tee.CodeParse},
		{"bundle in another order", func(f *nitrotest.Fields) { slices.Reverse(f.CABundle) }, tee.CodeChain},
		{"intermediate left out", func(f *nitrotest.Fields) { f.CABundle = slices.Delete(f.CABundle, 2, 3) }, tee.CodeChain},
		{"root only", func(f *nitrotest.Fields) { f.CABundle = f.CABundle[:1] }, tee.CodeChain},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := enclave.Fields()
			c.change(&f)
			refuses(t, enclave.Evidence(t, f), aws.Input(), c.code)
		})
	}
}

// TestRefusesPayloads has signed payloads that are CBOR but no document, or can be
// read in two ways.
func TestRefusesPayloads(t *testing.T) {
	aws, enclave := aws(t)
	good, err := cbor.Marshal(enclave.Fields())
	if err != nil {
		t.Fatal(err)
	}
	entry := append([]byte("\x6Amodule_id2"), 0x61, 'x') // of an 11th name
	duplicate := append(slices.Clone(good), "\x66digest\x66SHA384"...)
	duplicate[0]++
	unknown := append(slices.Clone(good), entry...)
	unknown[0]++
	indefinite := append(append([]byte{0xBF}, good[1:]...), 0xFF)
	for name, payload := range map[string][]byte{
		"empty": {}, "null": {0xF6}, "list": {0x80}, "map": {0xA0}, "duplicate key": duplicate, "unknown key": unknown,
		"indefinite length": indefinite, "bytes after it": append(slices.Clone(good), 0), "tagged": append([]byte{0xC1}, good...),
		"too long": make([]byte, 16<<10+1),
	} {
		code := []tee.Code{tee.CodeParse}
		if name == "map" || name == "null" {
			code = append(code, tee.CodeUnsupported) // no digest either
		}
		t.Run(name, func(t *testing.T) { refuses(t, enclave.Sign(t, payload), aws.Input(), code...) })
	}
}

// TestRefusesMessages has COSE messages that are none of a document.
func TestRefusesMessages(t *testing.T) {
	aws, enclave := aws(t)
	good := enclave.Evidence(t, enclave.Fields())
	cases := map[string]struct {
		change func([]byte) []byte
		codes  []tee.Code
	}{
		"ES256":               {func(b []byte) []byte { b[5] = 0x06; return b }, []tee.Code{tee.CodeUnsupported}},
		"ES512":               {func(b []byte) []byte { b[5] = 0x23; return b }, []tee.Code{tee.CodeUnsupported}},
		"unprotected header":  {func(b []byte) []byte { return slices.Concat(b[:6], []byte{0xA1, 0x04, 0x40}, b[7:]) }, []tee.Code{tee.CodeUnsupported}},
		"zero signature":      {func(b []byte) []byte { clear(b[len(b)-96:]); return b }, []tee.Code{tee.CodeSignature}},
		"signature of ones":   {func(b []byte) []byte { copy(b[len(b)-96:], bytes.Repeat([]byte{0xFF}, 96)); return b }, []tee.Code{tee.CodeSignature}},
		"COSE_Sign":           {func(b []byte) []byte { return append([]byte{0xD8, 0x62}, b...) }, []tee.Code{tee.CodeParse}},
		"bytes after it":      {func(b []byte) []byte { return append(b, 0xF6) }, []tee.Code{tee.CodeParse}},
		"length beyond bytes": {func(b []byte) []byte { b[8], b[9] = 0xFF, 0xFF; return b }, []tee.Code{tee.CodeParse}},
		"too long":            {func([]byte) []byte { return make([]byte, 18<<10) }, []tee.Code{tee.CodeParse}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			refuses(t, tee.Evidence{Kind: tee.Nitro, Data: c.change(bytes.Clone(good.Data))}, aws.Input(), c.codes...)
		})
	}
	for _, kind := range []tee.Kind{"", tee.SNP} {
		refuses(t, tee.Evidence{Kind: kind, Data: good.Data}, aws.Input(), tee.CodeUnknownFormat)
	}
}

// TestRefusesChains makes chains that are wrong in one way each.
func TestRefusesChains(t *testing.T) {
	aws, _ := aws(t)
	other := nitrotest.New(t)
	leaf := func(parent *nitrotest.Authority, o nitrotest.Options) *nitrotest.Authority {
		o.Name, o.Leaf = "enclave", true
		return nitrotest.NewAuthority(t, parent, o)
	}
	issuer := func(parent *nitrotest.Authority, o nitrotest.Options) *nitrotest.Authority {
		o.Name = "issuer"
		return nitrotest.NewAuthority(t, parent, o)
	}
	lookAlike := nitrotest.NewAuthority(t, nil, nitrotest.Options{Name: "aws.nitro-enclaves"})
	asIssuer := leaf(aws.Instance, nitrotest.Options{})
	// Below at most zero authorities there is one more.
	below := issuer(aws.Instance, nitrotest.Options{})
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}
	names := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: mustDER(t, struct {
		Permitted []struct {
			Base asn1.RawValue
		} `asn1:"tag:0"`
	}{[]struct{ Base asn1.RawValue }{{asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("example.com")}}}})}
	noCertSign := issuer(aws.Zone, nitrotest.Options{KeyUsage: x509.KeyUsageDigitalSignature})
	past := nitrotest.Options{To: nitrotest.At.Add(-time.Second)}
	future := nitrotest.Options{From: nitrotest.At.Add(time.Second)}
	pastIssuer, unknownIssuer, constrained := issuer(aws.Zone, past), issuer(aws.Zone, nitrotest.Options{Extensions: []pkix.Extension{critical}}), issuer(aws.Zone, nitrotest.Options{Extensions: []pkix.Extension{names}})
	curve := issuer(aws.Zone, nitrotest.Options{Curve: elliptic.P256()})
	authority := issuer(aws.Instance, nitrotest.Options{})
	good := []*nitrotest.Authority{aws.Root, aws.Region, aws.Zone}
	with := func(more ...*nitrotest.Authority) []*nitrotest.Authority { return slices.Concat(good, more) }
	cases := []struct {
		name   string
		leaf   *nitrotest.Authority
		bundle []*nitrotest.Authority
		codes  []tee.Code
	}{
		{"look-alike root", leaf(lookAlike, nitrotest.Options{}), []*nitrotest.Authority{lookAlike}, []tee.Code{tee.CodeChain}},
		{"other AWS", leaf(other.Instance, nitrotest.Options{}), []*nitrotest.Authority{other.Root, other.Region, other.Zone, other.Instance}, []tee.Code{tee.CodeChain}},
		{"grafted leaf", leaf(other.Instance, nitrotest.Options{}), with(aws.Instance), []tee.Code{tee.CodeChain}},
		{"grafted intermediate", leaf(other.Instance, nitrotest.Options{}), with(other.Instance), []tee.Code{tee.CodeChain}},
		{"look-alike root before a good chain", leaf(aws.Instance, nitrotest.Options{}), []*nitrotest.Authority{lookAlike, aws.Region, aws.Zone, aws.Instance}, []tee.Code{tee.CodeChain}},
		{"leaf that issues", leaf(asIssuer, nitrotest.Options{}), with(aws.Instance, asIssuer), []tee.Code{tee.CodeChain}},
		{"authority that signs", authority, with(aws.Instance), []tee.Code{tee.CodeChain}},
		{"one authority too many", leaf(below, nitrotest.Options{}), with(aws.Instance, below), []tee.Code{tee.CodeChain}},
		{"issuer without keyCertSign", leaf(noCertSign, nitrotest.Options{}), with(noCertSign), []tee.Code{tee.CodeChain}},
		{"leaf without digitalSignature", leaf(aws.Instance, nitrotest.Options{KeyUsage: x509.KeyUsageKeyAgreement}), with(aws.Instance), []tee.Code{tee.CodeChain}},
		{"leaf with critical extension", leaf(aws.Instance, nitrotest.Options{Extensions: []pkix.Extension{critical}}), with(aws.Instance), []tee.Code{tee.CodeChain}},
		{"issuer with critical extension", leaf(unknownIssuer, nitrotest.Options{}), with(unknownIssuer), []tee.Code{tee.CodeChain}},
		{"issuer with name constraints", leaf(constrained, nitrotest.Options{}), with(constrained), []tee.Code{tee.CodeChain}},
		{"SHA-256", leaf(aws.Instance, nitrotest.Options{SignatureAlgorithm: x509.ECDSAWithSHA256}), with(aws.Instance), []tee.Code{tee.CodeChain}},
		{"issuer on P-256", leaf(curve, nitrotest.Options{}), with(curve), []tee.Code{tee.CodeChain}},
		{"leaf on P-256", leaf(aws.Instance, nitrotest.Options{Curve: elliptic.P256()}), with(aws.Instance), []tee.Code{tee.CodeParse}}, // its signature is short
		{"leaf on P-521", leaf(aws.Instance, nitrotest.Options{Curve: elliptic.P521()}), with(aws.Instance), []tee.Code{tee.CodeParse}},
		{"expired leaf", leaf(aws.Instance, past), with(aws.Instance), []tee.Code{tee.CodeExpired}},
		{"leaf of the future", leaf(aws.Instance, future), with(aws.Instance), []tee.Code{tee.CodeExpired}},
		{"expired issuer", leaf(pastIssuer, nitrotest.Options{}), with(pastIssuer), []tee.Code{tee.CodeExpired}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := nitrotest.NewEnclave(c.leaf, c.bundle...)
			refuses(t, e.Evidence(t, e.Fields()), aws.Input(), c.codes...)
		})
	}
}

// TestWrongCurve has a leaf on P-256 and a signature of the right length, so that
// it is the curve that is refused.
func TestWrongCurve(t *testing.T) {
	aws, enclave := aws(t)
	leaf := nitrotest.NewAuthority(t, aws.Instance, nitrotest.Options{Name: "enclave", Leaf: true, Curve: elliptic.P256()})
	f := enclave.Fields()
	f.Certificate = leaf.Certificate.Raw
	refuses(t, enclave.Evidence(t, f), aws.Input(), tee.CodeUnsupported)
}

func mustDER(t *testing.T, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefusesInput(t *testing.T) {
	aws, enclave := aws(t)
	other := nitrotest.New(t)
	ev := enclave.Evidence(t, enclave.Fields())
	cases := []struct {
		name  string
		in    tee.Input
		codes []tee.Code
	}{
		{"zero", tee.Input{}, []tee.Code{tee.CodeTime, tee.CodeChain}},
		{"no time", tee.Input{Roots: aws.Roots()}, []tee.Code{tee.CodeTime}},
		{"embedded root", tee.Input{At: nitrotest.At}, []tee.Code{tee.CodeChain}},
		{"no roots", tee.Input{At: nitrotest.At, Roots: tee.Roots{}}, []tee.Code{tee.CodeChain}},
		{"nil root", tee.Input{At: nitrotest.At, Roots: tee.Roots{nil}}, []tee.Code{tee.CodeChain}},
		{"other root of the name", other.Input(), []tee.Code{tee.CodeChain}},
		{"leaf as root", tee.Input{At: nitrotest.At, Roots: tee.Roots{aws.Instance.Certificate}}, []tee.Code{tee.CodeChain}},
		{"long after", tee.Input{At: nitrotest.At.AddDate(1, 0, 0), Roots: aws.Roots()}, []tee.Code{tee.CodeExpired}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refuses(t, ev, c.in, c.codes...) })
	}
}

func TestRevocation(t *testing.T) {
	aws, enclave := aws(t)
	ev := enclave.Evidence(t, enclave.Fields())
	input := func(lists ...[]byte) tee.Input {
		in := aws.Input()
		in.Endorsements.CRLs = lists
		return in
	}
	all := [][]byte{aws.Root.CRL(t), aws.Region.CRL(t), aws.Zone.CRL(t), aws.Instance.CRL(t)}
	if _, findings := verifies(t, ev, input(all...)); len(findings) > 0 {
		t.Errorf("findings %v with all lists", findings)
	}
	if _, findings := verifies(t, ev, input(all[1:]...)); !slices.Equal(codesOf(findings), []tee.Code{tee.CodeRevocationUnknown}) {
		t.Errorf("findings %v without the root's list", findings)
	}
	other := nitrotest.NewAuthority(t, nil, nitrotest.Options{Name: "somebody"})
	verifies(t, ev, input(append(all, other.CRL(t))...))
	lookAlike := nitrotest.NewAuthority(t, nil, nitrotest.Options{Name: "aws.nitro-enclaves"})
	altered := bytes.Clone(all[0])
	altered[len(altered)-1] ^= 1
	for name, c := range map[string]struct {
		in   tee.Input
		code tee.Code
	}{
		"region":            {input(aws.Root.CRL(t, aws.Region.Certificate)), tee.CodeRevoked},
		"instance":          {input(aws.Zone.CRL(t, aws.Instance.Certificate)), tee.CodeRevoked},
		"one of two lists":  {input(all[2], aws.Zone.CRL(t, aws.Instance.Certificate)), tee.CodeRevoked},
		"not a list":        {input([]byte{0x30, 0}), tee.CodeParse},
		"too long":          {input(make([]byte, 257<<10)), tee.CodeParse},
		"too many":          {input(slices.Repeat(all, 5)...), tee.CodeParse},
		"altered, beside a": {input(altered, all[0]), tee.CodeSignature},
		"by a look-alike":   {input(lookAlike.CRL(t), all[0]), tee.CodeSignature},
	} {
		t.Run(name, func(t *testing.T) { refuses(t, ev, c.in, c.code) })
	}
	// The lists are current for two days; a chain that lives longer is refused then.
	long := nitrotest.Options{Name: "aws.nitro-enclaves", To: nitrotest.At.AddDate(0, 1, 0)}
	root := nitrotest.NewAuthority(t, nil, long)
	long.Leaf = true
	e := nitrotest.NewEnclave(nitrotest.NewAuthority(t, root, long), root)
	in := tee.Input{At: nitrotest.At.AddDate(0, 0, 7), Roots: tee.Roots{root.Certificate}, Endorsements: tee.Endorsements{CRLs: [][]byte{root.CRL(t)}}}
	refuses(t, e.Evidence(t, e.Fields()), in, tee.CodeCollateralExpired)
}
