package refvalues_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

func unmarshal(b []byte, v any) error { return cbor.Unmarshal(b, v) }

func dsse(t testing.TB, key crypto.Signer, payload string) string {
	t.Helper()
	const typ = "application/vnd.in-toto+json"
	signed := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(typ), typ, len(payload), payload)
	var sig []byte
	var err error
	switch k := key.(type) {
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, signed)
	case *ecdsa.PrivateKey:
		sum := sha256.Sum256(signed)
		digest := sum[:]
		if k.Curve == elliptic.P384() {
			d := sha512.Sum384(signed)
			digest = d[:]
		}
		sig, err = ecdsa.SignASN1(rand.Reader, k, digest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return envelope(payload, base64.StdEncoding.EncodeToString(sig))
}

func envelope(payload, sig string) string {
	return `{"payloadType":"application/vnd.in-toto+json","payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `","signatures":[{"keyid":"hint","sig":"` + sig + `"}]}`
}

func statement(values string) string {
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"image","digest":{"sha256":"00"}}],"predicateType":"https://cloister.cc/reference-values/v1","predicate":{"values":[` + values + `]}}`
}

func snpValue(more string) string {
	return `{"tee":"sev-snp","measurements":["` + hex.EncodeToString(m48) + `"]` + more + `}`
}

func TestDSSE(t *testing.T) {
	p256, p384, ed := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), edKey(t)
	keys := []crypto.PublicKey{p256.Public(), p384.Public(), ed.Public()}
	in := statement(snpValue(`,"min_svn":3,"launch_digests":["`+hex.EncodeToString(m32)+`"],"tcb":["UpToDate"]`) + `,{"tee":"sgx","signer":"` + hex.EncodeToString(signer) + `","product":7}`)
	want := []refvalues.Entry{
		{TEE: tee.SNP, Source: "values[0]", Conditions: []refvalues.Condition{
			{Claim: "measurement", Equal: []any{hex.EncodeToString(m48)}}, {Claim: "launch_digest", Equal: []any{hex.EncodeToString(m32)}},
			{Claim: "tcb_status", Equal: []any{"UpToDate"}}, {Claim: "svn", Min: new(uint64(3))},
		}},
		{TEE: tee.SGX, Source: "values[1]", Conditions: []refvalues.Condition{{Claim: "signer", Equal: []any{hex.EncodeToString(signer)}}, {Claim: "product", Equal: []any{uint64(7)}}}},
	}
	for _, key := range []crypto.Signer{p256, p384, ed} {
		b := dsse(t, key, in)
		v, err := refvalues.FromDSSE([]byte(b), keys)
		if d := cmp.Diff(want, v.Entries); err != nil || d != "" {
			t.Errorf("%T: %v %s", key, err, d)
		}
		for name, other := range map[string][]crypto.PublicKey{"none": nil, "others": {ecKey(t, elliptic.P256()).Public(), edKey(t).Public(), ecKey(t, elliptic.P521()).Public(), nil, "key"}} {
			if _, err := refvalues.FromDSSE([]byte(b), other); !errors.Is(err, refvalues.ErrNotTrusted) {
				t.Errorf("%T, %s: got %v", key, name, err)
			}
		}
	}
	// r and s at full length, as in JOSE.
	const typ = "application/vnd.in-toto+json"
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(typ), typ, len(in), in))
	r, s, err := ecdsa.Sign(rand.Reader, p256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	if _, err := refvalues.FromDSSE([]byte(envelope(in, base64.RawURLEncoding.EncodeToString(sig))), keys); err != nil {
		t.Error(err)
	}
}

func TestRefusedStatements(t *testing.T) {
	key := edKey(t)
	keys := []crypto.PublicKey{key.Public()}
	good := statement(snpValue(""))
	for name, c := range map[string]struct{ in, want string }{
		"not JSON":         {"{", "not JSON"},
		"a list":           {"[]", "not a JSON object"},
		"member twice":     {strings.Replace(dsse(t, key, good), `"payload"`, `"payloadType":"","payload"`, 1), "twice"},
		"unknown member":   {`{"payLoad":""}`, "unknown member"},
		"payload type":     {strings.Replace(dsse(t, key, good), "vnd.in-toto+json", "json", 1), "payloadType is not"},
		"payload":          {`{"payloadType":"application/vnd.in-toto+json","payload":"*","signatures":[]}`, "not base64"},
		"no signatures":    {`{"payloadType":"application/vnd.in-toto+json","payload":"eA==","signatures":[]}`, "signatures is not a list"},
		"signature":        {envelope(good, "*"), "not base64"},
		"no signature":     {`{"payloadType":"application/vnd.in-toto+json","payload":"eA==","signatures":[{"keyid":"x"}]}`, "sig is missing"},
		"extension":        {`{"payloadType":"application/vnd.in-toto+json","payload":"eA==","signatures":[{"sig":"eA==","extension":{}}]}`, "extensions"},
		"statement":        {dsse(t, key, "[]"), "statement: not a JSON object"},
		"statement type":   {dsse(t, key, strings.Replace(good, "Statement/v1", "Statement/v0.1", 1)), "_type is not"},
		"predicate type":   {dsse(t, key, strings.Replace(good, "reference-values/v1", "other", 1)), "predicateType is not"},
		"no subject":       {dsse(t, key, strings.Replace(good, `"subject":[{"name":"image","digest":{"sha256":"00"}}]`, `"subject":[]`, 1)), "subject is not a list"},
		"predicate member": {dsse(t, key, strings.Replace(good, `"predicate":{`, `"predicate":{"x":1,`, 1)), "unknown member"},
		"no values":        {dsse(t, key, statement("")), "values is not a list"},
		"tee":              {dsse(t, key, statement(`{"tee":"sev"}`)), "unknown TEE"},
		"no tee":           {dsse(t, key, statement(`{"measurements":["`+hex.EncodeToString(m48)+`"]}`)), "tee is missing"},
		"no conditions":    {dsse(t, key, statement(`{"tee":"sgx"}`)), "0 conditions"},
		"value member":     {dsse(t, key, statement(snpValue(`,"minSVN":3`))), `unknown member "minSVN"`},
		"measurement":      {dsse(t, key, statement(`{"tee":"sgx","measurements":["A1"]}`)), "lower-case hex"},
		"upper case":       {dsse(t, key, statement(`{"tee":"sgx","measurements":["`+strings.Repeat("AB", 32)+`"]}`)), "lower-case hex"},
		"no text":          {dsse(t, key, statement(`{"tee":"sgx","measurements":[7]}`)), "not a text"},
		"signer":           {dsse(t, key, statement(`{"tee":"sgx","signer":"00","product":1}`)), "signer: "},
		"product":          {dsse(t, key, statement(snpValue(`,"product":-1`))), "product is not a number"},
		"min svn":          {dsse(t, key, statement(snpValue(`,"min_svn":4294967296`))), "min_svn is not a number"},
		"tcb":              {dsse(t, key, statement(snpValue(`,"tcb":["any"]`))), "no TCB status"},
		"too large":        {strings.Repeat(" ", refvalues.MaxDocument+1), "at most"},
	} {
		v, err := refvalues.FromDSSE([]byte(c.in), keys)
		if len(v.Entries) > 0 || !errors.Is(err, refvalues.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
	}
}

func measureOutput(debug bool) []byte {
	return fmt.Appendf(nil, `{"tee":"software","simulated":true,"measurement":%q,"launch_digest":%q,"runtime_digest":"00","image_kind":"wasm","image_digest":"11","debug":%v}`,
		hex.EncodeToString(m32), hex.EncodeToString(signer), debug)
}

func TestFromMeasure(t *testing.T) {
	v, err := refvalues.FromMeasure(measureOutput(false))
	if err != nil {
		t.Fatal(err)
	}
	p := base()
	if err := v.Apply(&p); err != nil {
		t.Fatal(err)
	}
	c := tee.Claims{TEE: tee.Software, Simulated: true, Measurement: m32, LaunchDigest: signer, TCB: tee.TCBNotApplicable}
	// Reference values never allow what production must not.
	if d := cmp.Diff([]tee.Code{attest.CodeSimulated}, decides(t, p, c)); d != "" {
		t.Error(d)
	}
	p.AllowSimulated = true
	if codes := decides(t, p, c); codes != nil {
		t.Errorf("got %v", codes)
	}
	c.LaunchDigest = m32
	if codes := decides(t, p, c); !slices.Contains(codes, attest.CodeLaunchDigest) {
		t.Errorf("got %v", codes)
	}
	for name, in := range map[string]string{
		"unknown": strings.Replace(string(measureOutput(false)), "debug", "debugg", 1), "measurement": `{"tee":"software","measurement":"xx"}`,
		"launch digest": `{"tee":"software","measurement":"` + hex.EncodeToString(m32) + `","launch_digest":"00"}`, "tee": `{"measurement":"` + hex.EncodeToString(m32) + `"}`, "empty": "", "large": strings.Repeat(" ", refvalues.MaxDocument+1),
	} {
		if _, err := refvalues.FromMeasure([]byte(in)); !errors.Is(err, refvalues.ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func entry(k tee.Kind, c ...refvalues.Condition) refvalues.Entry {
	return refvalues.Entry{TEE: k, Conditions: c, Source: "test"}
}

func is(claim string, v ...any) refvalues.Condition {
	return refvalues.Condition{Claim: claim, Equal: v}
}

func least(claim string, n uint64) refvalues.Condition {
	return refvalues.Condition{Claim: claim, Min: &n}
}

// Values that belong together stay together.
func TestEntriesAreNotMixed(t *testing.T) {
	a, b := hex.EncodeToString(m48), strings.Repeat("0b", 48)
	v := refvalues.Values{Entries: []refvalues.Entry{entry(tee.SNP, is("measurement", a), least("svn", 5)), entry(tee.SNP, is("measurement", b), least("svn", 2)), entry(tee.TDX, is("measurement", b), least("svn", 2))}}
	p := base()
	if err := v.Apply(&p); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind tee.Kind
		m    []byte
		svn  uint32
		want bool
	}{
		{tee.SNP, m48, 5, true}, {tee.SNP, m48, 4, false}, {tee.SNP, m48, 2, false}, {tee.SNP, bytes.Repeat([]byte{0x0B}, 48), 2, true},
		{tee.SNP, bytes.Repeat([]byte{0x0B}, 48), 1, false}, {tee.TDX, bytes.Repeat([]byte{0x0B}, 48), 2, true}, {tee.TDX, m48, 9, false},
	} {
		codes := decides(t, p, tee.Claims{TEE: c.kind, Measurement: c.m, SVN: c.svn, TCB: tee.TCBUpToDate})
		if (codes == nil) != c.want {
			t.Errorf("%s %x svn %d: %v", c.kind, c.m[:1], c.svn, codes)
		}
	}
}

func TestApply(t *testing.T) {
	m := hex.EncodeToString(m48)
	s := hex.EncodeToString(signer)
	only := refvalues.Values{Entries: []refvalues.Entry{entry(tee.SNP, is("measurement", m))}}
	p := base()
	if err := only.Apply(&p); err != nil || len(p.Rules) != 0 || !slices.Equal(p.Measurements, []string{m}) || !slices.Equal(p.Accept, []tee.Kind{tee.SNP}) || !slices.Equal(p.TCB, []string{"any"}) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := only.Apply(&p); err != nil {
		t.Errorf("the same again: %v", err)
	}
	sgx := refvalues.Values{Entries: []refvalues.Entry{entry(tee.SGX, is("signer", s), is("product", uint64(7)), least("svn", 3), is("tcb_status", "UpToDate"))}}
	p = base()
	if err := sgx.Apply(&p); err != nil {
		t.Fatal(err)
	}
	want := attest.Policy{
		Version: 1, Name: "base", Accept: []tee.Kind{tee.SGX}, Measurements: []string{"any"}, TCB: []string{"UpToDate"},
		Signers: []attest.SignerRule{{Signer: s, Product: 7, MinSVN: 3}},
		Rules:   p.Rules,
	}
	if d := cmp.Diff(want, p); d != "" || len(p.Rules) != 1 {
		t.Error(d)
	}
	good := tee.Claims{TEE: tee.SGX, Measurement: m32, Signer: signer, Product: 7, SVN: 3, TCB: tee.TCBUpToDate}
	if codes := decides(t, p, good); codes != nil {
		t.Errorf("got %v", codes)
	}
	good.Product = 8
	if codes := decides(t, p, good); codes == nil {
		t.Error("another product is accepted")
	}
}

func TestApplyRefuses(t *testing.T) {
	m, s := hex.EncodeToString(m48), hex.EncodeToString(signer)
	many := refvalues.Values{}
	for i := range 100 {
		many.Entries = append(many.Entries, entry(tee.SNP, is("measurement", fmt.Sprintf("%096x", i)), least("svn", uint64(i))))
	}
	one := func(c ...refvalues.Condition) refvalues.Values {
		return refvalues.Values{Entries: []refvalues.Entry{entry(tee.SNP, c...)}}
	}
	for name, c := range map[string]struct {
		v      refvalues.Values
		change func(*attest.Policy)
		want   string
	}{
		"none":              {refvalues.Values{}, nil, "there are none"},
		"platform only":     {one(least("sev_snp.reported_tcb.snp", 8)), nil, "neither a measurement nor a signer"},
		"signer alone":      {one(is("signer", s)), nil, "neither a measurement nor a signer"},
		"contradiction":     {one(is("measurement", m), is("measurement", strings.Repeat("00", 48))), nil, "contradicts itself"},
		"other tee":         {one(is("measurement", m)), func(p *attest.Policy) { p.Accept = []tee.Kind{tee.TDX} }, "does not accept sev-snp"},
		"other measurement": {one(is("measurement", m)), func(p *attest.Policy) { p.Measurements = []string{strings.Repeat("00", 48)} }, "its list of measurement is another one"},
		"other tcb":         {one(is("measurement", m), is("tcb_status", "UpToDate")), func(p *attest.Policy) { p.TCB = []string{"OutOfDate"} }, "its list of tcb_status"},
		"other signers":     {one(is("signer", s), is("product", uint64(1))), func(p *attest.Policy) { p.Signers = []attest.SignerRule{{Signer: s, Product: 2}} }, "its list of signers"},
		"large product":     {one(is("signer", s), is("product", uint64(1<<40))), nil, "32 bits"},
		"rule twice":        {one(is("measurement", m), least("svn", 1)), func(p *attest.Policy) { p.Rules = []attest.Rule{{Name: refvalues.RuleName, Expr: "true"}} }, "has a rule"},
		"too many":          {many, nil, "apply fewer entries at once"},
	} {
		p := base()
		if c.change != nil {
			c.change(&p)
		}
		before, _ := json.Marshal(p)
		err := c.v.Apply(&p)
		after, _ := json.Marshal(p)
		if !errors.Is(err, refvalues.ErrApply) || !strings.Contains(err.Error(), c.want) || !bytes.Equal(before, after) {
			t.Errorf("%s: got %v\nwant %s\n%s\n%s", name, err, c.want, before, after)
		}
	}
}

func Example() {
	v, err := refvalues.FromMeasure([]byte(`{
		"tee": "software", "simulated": true,
		"measurement": "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
		"launch_digest": "5151515151515151515151515151515151515151515151515151515151515151",
		"runtime_digest": "00", "image_kind": "wasm", "image_digest": "11", "debug": false
	}`))
	if err != nil {
		panic(err)
	}
	policy := attest.Policy{Version: 1, Name: "this release", TCB: []string{attest.Any}, AllowSimulated: true}
	if err := v.Apply(&policy); err != nil {
		panic(err)
	}
	fmt.Println(policy.Accept, policy.Measurements[0][:8], policy.LaunchDigests[0][:8], policy.Rules[0].Code)
	// Output:
	// [software] b2b2b2b2 51515151 reference_values
}
