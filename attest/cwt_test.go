package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"
	"pgregory.net/rapid"
)

// cwtWorld is an issuer, its key and a good token in CBOR.
type cwtWorld struct {
	key    *ecdsa.PrivateKey
	kid    []byte
	issuer *attest.Issuer
	verify attest.TokenVerifier
	token  []byte
}

func newCWTWorld(t testing.TB) cwtWorld {
	t.Helper()
	w := cwtWorld{key: newKey(t, elliptic.P256())}
	w.issuer = newIssuer(t, func(c *attest.IssuerConfig) { c.Key = w.key })
	w.kid, w.verify = must[[]byte](t)(decode64(w.issuer.JWKS().IDs()[0])), trusting(w.issuer)
	w.token = must[[]byte](t)(w.issuer.IssueCWT(hardware(), policyDigest, attest.IssueOptions{}))
	if _, err := w.verify.VerifyCWT(w.token, at); err != nil {
		t.Fatal(err)
	}
	return w
}

// header is the protected header of every good token of w.
func (w cwtWorld) header(t testing.TB) []byte {
	return encodeCBOR(t, map[int]any{1: -7, 4: w.kid})
}

// signed returns a token with another body under the right header.
func (w cwtWorld) signed(t testing.TB, change func(body map[any]any)) []byte {
	t.Helper()
	body := cwtBody(t, w.token)
	change(body)
	return forgeCWT(t, w.key, w.header(t), encodeCBOR(t, body))
}

// forgeCWT signs any header and body, correctly, as a broken or hostile issuer can.
func forgeCWT(t testing.TB, key *ecdsa.PrivateKey, header, body []byte) []byte {
	t.Helper()
	return append([]byte{0xd8, 0x3d, 0xd2}, encodeCBOR(t, []any{header, map[int]int{}, body, cwtSignature(t, key, header, body)})...)
}

func cwtSignature(t testing.TB, key *ecdsa.PrivateKey, header, body []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(encodeCBOR(t, []any{"Signature1", header, []byte{}, body}))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func encodeCBOR(t testing.TB, v any) []byte {
	t.Helper()
	mode := must[cbor.EncMode](t)(cbor.CoreDetEncOptions().EncMode())
	return must[[]byte](t)(mode.Marshal(v))
}

// cwtBody decodes the claims of a token, as another implementation opens it.
func cwtBody(t testing.TB, token []byte) map[any]any {
	t.Helper()
	m := openCOSE(t, token)
	var body map[any]any
	if err := cbor.Unmarshal(m.Payload, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func openCOSE(t testing.TB, token []byte) *cose.Sign1Message {
	t.Helper()
	rest, ok := bytes.CutPrefix(token, []byte{0xd8, 0x3d})
	if !ok {
		t.Fatalf("no tag 61: %x", token[:8])
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(rest); err != nil {
		t.Fatal(err)
	}
	return &m
}

// What others read out of a token: the claims of EAR, under their numbers.
func TestCWTIsEAR(t *testing.T) {
	bearer := newKey(t, elliptic.P256())
	i := newIssuer(t, nil)
	token := must[[]byte](t)(i.IssueCWT(hardware(), policyDigest, attest.IssueOptions{Audience: "vault", Nonce: []byte("nonce-1234"), Confirm: &bearer.PublicKey}))
	body := cwtBody(t, token)
	if id, _ := body[uint64(7)].([]byte); len(id) != 16 {
		t.Errorf("cti %x", id)
	}
	own := body[int64(-77000)].(map[any]any)
	if tree := own[uint64(2)].(map[any]any); tree["tee"] != "sev-snp" || tree["svn"] != uint64(3) {
		t.Errorf("claims %v", tree)
	}
	delete(body, uint64(7))
	delete(own, uint64(2))
	point := must[[]byte](t)(bearer.PublicKey.Bytes())
	evidence, endorsements := [32]byte{1}, [32]byte{2}
	n := func(i int) any { return uint64(i) }
	want := map[any]any{
		n(1): "https://issuer.example", n(3): "vault", n(4): n(1772367000), n(5): n(1772366400), n(6): n(1772366400),
		n(8):   map[any]any{n(1): map[any]any{n(1): n(2), int64(-1): n(1), int64(-2): point[1:33], int64(-3): point[33:]}},
		n(10):  []byte("nonce-1234"),
		n(265): "tag:ietf.org,2026:rats/ear#04",
		n(266): map[any]any{"cpu0": map[any]any{
			n(1000): n(2), n(1001): map[any]any{n(0): n(2), n(4): n(2), n(5): n(2)},
			n(1003): []any{"sha256:706f6c6963790000000000000000000000000000000000000000000000000000"},
		}},
		n(1000): n(2),
		n(1004): map[any]any{n(0): "https://github.com/cloister-cc/cloister", n(1): "cloister"},
		int64(-77000): map[any]any{
			n(0): false, n(1): false, n(3): []any{map[any]any{n(0): "trailing_bytes", n(1): "70 bytes behind the quote"}},
			n(4): evidence[:], n(5): endorsements[:], n(6): n(1772366400),
		},
	}
	if d := cmp.Diff(want, body); d != "" {
		t.Errorf("claims (-want +got):\n%s", d)
	}
}

// Another implementation reads our tokens, and we read its.
func TestCWTInteroperatesWithGoCOSE(t *testing.T) {
	for _, c := range []struct {
		curve elliptic.Curve
		alg   cose.Algorithm
	}{{elliptic.P256(), cose.AlgorithmES256}, {elliptic.P384(), cose.AlgorithmES384}} {
		t.Run(c.alg.String(), func(t *testing.T) {
			key := newKey(t, c.curve)
			i := newIssuer(t, func(cfg *attest.IssuerConfig) { cfg.Key = key })
			token := must[[]byte](t)(i.IssueCWT(hardware(), policyDigest, attest.IssueOptions{}))
			m := openCOSE(t, token)
			if err := m.Verify(nil, must[cose.Verifier](t)(cose.NewVerifier(c.alg, &key.PublicKey))); err != nil {
				t.Error(err)
			}
			kid := must[[]byte](t)(decode64(i.JWKS().IDs()[0]))
			if alg, err := m.Headers.Protected.Algorithm(); alg != c.alg || len(m.Headers.Protected) != 2 || !cmp.Equal(m.Headers.Protected[cose.HeaderLabelKeyID], any(kid)) {
				t.Errorf("protected header %v %v", m.Headers.Protected, err)
			}

			signer := must[cose.Signer](t)(cose.NewSigner(c.alg, key))
			theirs := cose.Sign1Message{Payload: m.Payload, Headers: cose.Headers{Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: c.alg, cose.HeaderLabelKeyID: kid}}}
			if err := theirs.Sign(rand.Reader, nil, signer); err != nil {
				t.Fatal(err)
			}
			b := append([]byte{0xd8, 0x3d}, must[[]byte](t)(theirs.MarshalCBOR())...)
			if _, err := trusting(i).VerifyCWT(b, at); err != nil {
				t.Errorf("a token signed by go-cose: %v", err)
			}
		})
	}
}

// The two forms of a verdict give the same result, whatever the verdict.
func TestCWTSaysWhatJWTSays(t *testing.T) {
	key, bearer := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	i := newIssuer(t, func(c *attest.IssuerConfig) { c.Key = key })
	rapid.Check(t, func(rt *rapid.T) {
		v := drawVerified(rt)
		o := attest.IssueOptions{Audience: rapid.SampledFrom([]string{"", "vault"}).Draw(rt, "audience")}
		if rapid.Bool().Draw(rt, "nonce") {
			o.Nonce = rapid.SliceOfN(rapid.Byte(), 8, 64).Draw(rt, "nonce bytes")
		}
		verifier := trusting(i)
		verifier.AllowWarning, verifier.AllowDebug, verifier.AllowSimulated, verifier.Audience = true, true, true, o.Audience
		if rapid.Bool().Draw(rt, "confirm") {
			o.Confirm, verifier.Confirm = &bearer.PublicKey, &bearer.PublicKey
		}
		policy := rapid.SampledFrom([][32]byte{policyDigest, {}}).Draw(rt, "policy")
		jwt, err := i.Issue(v, policy, o)
		if err != nil {
			rt.Fatal(err)
		}
		cwt, err := i.IssueCWT(v, policy, o)
		if err != nil {
			rt.Fatal(err)
		}
		want, errJWT := verifier.Verify(jwt, at)
		got, errCWT := verifier.VerifyCWT(cwt, at)
		if d := cmp.Diff(attest.Codes(errJWT), attest.Codes(errCWT)); d != "" || (errJWT == nil) != (errCWT == nil) {
			rt.Fatalf("JWT: %v\nCWT: %v", errJWT, errCWT)
		}
		if errJWT == nil {
			want.ID, got.ID = "", "" // random
			sameKey := cmp.Comparer(func(a, b *ecdsa.PublicKey) bool { return a == b || a != nil && b != nil && a.Equal(b) })
			if d := cmp.Diff(want, got, sameKey); d != "" {
				rt.Fatalf("result (-JWT +CWT):\n%s", d)
			}
		}
	})
}

func drawVerified(t *rapid.T) *attest.Verified {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\xff\xfe", "<&>\u2028", "\x00"}))
	value := rapid.OneOf(text.AsAny(), rapid.Uint64().AsAny(), rapid.Int64().AsAny(), rapid.Bool().AsAny(), rapid.Float64().AsAny())
	v := hardware()
	v.Claims.TEE = rapid.SampledFrom([]tee.Kind{tee.SNP, tee.TDX, tee.TPM, tee.AzureTDX}).Draw(t, "tee")
	v.Claims.TCB = rapid.SampledFrom(tee.TCBStatuses()).Draw(t, "tcb")
	v.Claims.Debug, v.Claims.Simulated = rapid.Bool().Draw(t, "debug"), rapid.Bool().Draw(t, "simulated")
	v.Claims.SVN, v.Claims.InstanceID = rapid.Uint32().Draw(t, "svn"), text.Draw(t, "instance")
	v.Claims.Measurement = rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "measurement")
	v.EvidenceDigest = sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "evidence"))
	v.At = at.Add(-time.Duration(rapid.IntRange(0, 1e9).Draw(t, "ago")) * time.Second)
	v.Claims.Vendor = nil
	if rapid.Bool().Draw(t, "vendor") {
		v.Claims.Vendor = map[string]any{"values": rapid.SliceOf(value).Draw(t, "values"), "nested": map[string]any{"a_1": value.Draw(t, "value"), "none": nil, "list": []any{[]string{"x"}}}}
	}
	v.Findings = nil
	for range rapid.IntRange(0, 3).Draw(t, "findings") {
		v.Findings = append(v.Findings, tee.Finding{Code: tee.Code(text.Draw(t, "code")), Detail: text.Draw(t, "detail")})
	}
	return v
}

// No byte of a token can be another one: not one bit of it is ignored.
func TestAnyChangedByteOfACWTIsRefused(t *testing.T) {
	w := newCWTWorld(t)
	for i := range w.token {
		for _, bit := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
			b := bytes.Clone(w.token)
			b[i] ^= bit
			if _, err := w.verify.VerifyCWT(b, at); err == nil {
				t.Fatalf("accepted with byte %d changed from %#x to %#x", i, w.token[i], b[i])
			}
		}
	}
	for n := range w.token {
		if _, err := w.verify.VerifyCWT(w.token[:n], at); err == nil {
			t.Fatalf("accepted when cut to %d bytes", n)
		}
	}
}

func TestIssueCWTRefuses(t *testing.T) {
	unbound := hardware()
	unbound.Findings = append(unbound.Findings, tee.Finding{Code: attest.FindingBindingUnchecked})
	big := hardware()
	big.Claims.Vendor["log"] = string(make([]byte, attest.MaxToken))
	i := newIssuer(t, nil)
	for name, c := range map[string]struct {
		issuer *attest.Issuer
		v      *attest.Verified
		o      attest.IssueOptions
	}{
		"zero issuer":      {&attest.Issuer{}, hardware(), attest.IssueOptions{}},
		"no issuer":        {nil, hardware(), attest.IssueOptions{}},
		"nothing verified": {i, nil, attest.IssueOptions{}},
		"zero claims":      {i, &attest.Verified{}, attest.IssueOptions{}},
		"unbound evidence": {i, unbound, attest.IssueOptions{}},
		"too long":         {i, big, attest.IssueOptions{}},
		"short nonce":      {i, hardware(), attest.IssueOptions{Nonce: make([]byte, 7)}},
	} {
		if token, err := c.issuer.IssueCWT(c.v, policyDigest, c.o); err == nil || token != nil {
			t.Errorf("%s: got token %x", name, token)
		}
	}
}
