package attest_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// lying is a defective TEE verifier: it says yes with the claims of another TEE.
type lying struct{ kind, claims tee.Kind }

func (l lying) Kind() tee.Kind { return l.kind }

func (l lying) Detect(b []byte) bool { return string(b) == string(l.kind) }

func (l lying) Verify(ev tee.Evidence, _ tee.Input) (tee.Claims, []tee.Finding, error) {
	return tee.Claims{TEE: l.claims, ReportData: ev.Data}, []tee.Finding{{Code: "seen"}}, nil
}

var bound = [64]byte{'b', 'o', 'u', 'n', 'd'}

func evidence(t testing.TB, f *attesttest.TEE) tee.Evidence {
	t.Helper()
	return must[tee.Evidence](t)(f.Evidence(t.Context(), bound))
}

func TestVerify(t *testing.T) {
	f := attesttest.New(tee.Claims{InstanceID: "i-1", SVN: 4})
	ev, in := evidence(t, f), f.Input(at)
	for name, kind := range map[string]tee.Kind{"named": tee.Software, "detected": ""} {
		t.Run(name, func(t *testing.T) {
			ev.Kind = kind
			got, err := attest.NewVerifier(f).Verify(ev, in, attest.BindTo(bound))
			if err != nil {
				t.Fatal(err)
			}
			claims := f.Claims()
			claims.ReportData = bound[:]
			ev.Kind = tee.Software // the digest is of the labelled evidence either way
			want := &attest.Verified{Claims: claims, At: at, EvidenceDigest: attest.DigestEvidence(ev), EndorsementsDigest: attest.DigestEndorsements(in), Evidence: ev, Input: in}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	f := attesttest.New(tee.Claims{})
	good := evidence(t, f)
	v := attest.NewVerifier(f, lying{tee.SNP, tee.SGX})
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	cases := []struct {
		name   string
		change func(ev *tee.Evidence, in *tee.Input, want *attest.Binding)
		code   tee.Code
	}{
		{"no binding", func(_ *tee.Evidence, _ *tee.Input, b *attest.Binding) { *b = attest.Binding{} }, tee.CodeBinding},
		{"another binding", func(_ *tee.Evidence, _ *tee.Input, b *attest.Binding) { *b = attest.BindTo([64]byte{}) }, tee.CodeBinding},
		{"no way to make the binding", func(_ *tee.Evidence, _ *tee.Input, b *attest.Binding) { *b = attest.BindBy(nil) }, tee.CodeBinding},
		{"another binding, by the claims", func(_ *tee.Evidence, _ *tee.Input, b *attest.Binding) {
			*b = attest.BindBy(func(c tee.Claims) [64]byte { return tee.Bind("x", []byte(c.InstanceID)) })
		}, tee.CodeBinding},
		{"no time", func(_ *tee.Evidence, in *tee.Input, _ *attest.Binding) { in.At = time.Time{} }, tee.CodeTime},
		{"long evidence", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { ev.Data = make([]byte, tee.MaxEvidence+1) }, tee.CodeParse},
		{"many certificates", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) {
			ev.Certificates = make([][]byte, attest.MaxCertificates+1)
		}, tee.CodeParse},
		{"long certificate", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) {
			ev.Certificates[0] = make([]byte, attest.MaxCertificate+1)
		}, tee.CodeParse},
		{"kind without a verifier", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { ev.Kind = tee.TDX }, tee.CodeUnsupported},
		{"kind that does not exist", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { ev.Kind = "SOFTWARE" }, tee.CodeUnsupported},
		{"unknown bytes", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { ev.Kind, ev.Data = "", []byte("quote") }, tee.CodeUnknownFormat},
		{"no bytes", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { *ev = tee.Evidence{} }, tee.CodeUnknownFormat},
		{"claims of another TEE", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { ev.Kind = tee.SNP }, tee.CodeUnsupported},
		{"signature", func(ev *tee.Evidence, _ *tee.Input, _ *attest.Binding) { ev.Data = flip(ev.Data, -1) }, tee.CodeSignature},
		{"no roots", func(_ *tee.Evidence, in *tee.Input, _ *attest.Binding) { in.Roots = nil }, tee.CodeChain},
		{"another root", func(_ *tee.Evidence, in *tee.Input, _ *attest.Binding) {
			in.Roots = attesttest.New(tee.Claims{}).Roots()
		}, tee.CodeChain},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ev, in, want := good, f.Input(at), attest.BindTo(bound)
			ev.Certificates = slices.Clone(good.Certificates)
			c.change(&ev, &in, &want)
			got, err := v.Verify(ev, in, want)
			wantCodes(t, err, tee.ErrNotVerified, c.code)
			if got != nil {
				t.Error("a result beside an error")
			}
		})
	}
}

func TestVerifierWithoutTEEs(t *testing.T) {
	f := attesttest.New(tee.Claims{})
	var none *attest.Verifier
	for name, v := range map[string]*attest.Verifier{"nil": none, "zero": {}, "empty": attest.NewVerifier()} {
		for _, kind := range []tee.Kind{"", tee.Software} {
			ev := evidence(t, f)
			ev.Kind = kind
			_, err := v.Verify(ev, f.Input(at), attest.BindTo(bound))
			code := tee.CodeUnsupported
			if kind == "" {
				code = tee.CodeUnknownFormat
			}
			wantCodes(t, err, tee.ErrNotVerified, code)
		}
		if len(v.Kinds()) != 0 {
			t.Errorf("%s knows %v", name, v.Kinds())
		}
	}
}

// Detection goes in the given order, and of two verifiers for one TEE the first
// counts.
func TestVerifierOrder(t *testing.T) {
	v := attest.NewVerifier(lying{tee.SGX, tee.SGX}, lying{tee.TDX, tee.TDX}, lying{tee.SGX, tee.SNP})
	if d := cmp.Diff([]tee.Kind{tee.SGX, tee.TDX}, v.Kinds()); d != "" {
		t.Errorf("kinds (-want +got):\n%s", d)
	}
	got, err := v.Verify(tee.Evidence{Data: []byte(tee.TDX)}, tee.Input{At: at}, attest.WithoutFreshness())
	if err != nil || got.Claims.TEE != tee.TDX {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := v.Verify(tee.Evidence{Kind: tee.SGX}, tee.Input{At: at}, attest.WithoutFreshness()); err != nil {
		t.Errorf("the second verifier of a kind was asked: %v", err)
	}
}

// Evidence that was not compared says so, and a policy can refuse it.
func TestWithoutFreshnessLeavesAFinding(t *testing.T) {
	f := attesttest.New(tee.Claims{})
	got, err := attest.NewVerifier(f).Verify(evidence(t, f), f.Input(at), attest.WithoutFreshness())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Findings) != 1 || got.Findings[0].Code != attest.FindingBindingUnchecked {
		t.Fatalf("findings %v", got.Findings)
	}
	p := attest.Development()
	p.RefuseFindings = []string{string(attest.FindingBindingUnchecked)}
	wantCodes(t, compile(t, p).Appraise(got), attest.ErrRefused, attest.CodeFinding)
	// Report data of another length is not the wanted one either.
	_, err = attest.NewVerifier(lying{tee.SGX, tee.SGX}).Verify(tee.Evidence{Kind: tee.SGX, Data: bound[:63]}, tee.Input{At: at}, attest.BindTo(bound))
	wantCodes(t, err, tee.ErrNotVerified, tee.CodeBinding)
}

func TestDigestsDependOnEverything(t *testing.T) {
	type bytes2 = [][]byte
	root := attesttest.New(tee.Claims{}).Roots()[0]
	seen := map[[32]byte]string{}
	add := func(name string, d [32]byte) {
		t.Helper()
		if twin, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", name, twin)
		}
		seen[d] = name
	}
	for name, ev := range map[string]tee.Evidence{
		"empty": {}, "kind": {Kind: "a"}, "data": {Data: []byte("a")}, "certificate": {Certificates: bytes2{[]byte("a")}},
		"two certificates": {Certificates: bytes2{{}, []byte("a")}}, "other order": {Certificates: bytes2{[]byte("a"), {}}},
	} {
		add("evidence "+name, attest.DigestEvidence(ev))
	}
	for name, in := range map[string]tee.Input{
		"empty": {}, "no roots at all": {Roots: tee.Roots{}}, "root": {Roots: tee.Roots{root}}, "root twice": {Roots: tee.Roots{root, root}},
		"certificate":     {Endorsements: tee.Endorsements{Certificates: bytes2{[]byte("a")}}},
		"CRL":             {Endorsements: tee.Endorsements{CRLs: bytes2{[]byte("a")}}},
		"collateral":      {Endorsements: tee.Endorsements{Collateral: map[string][]byte{"a": []byte("b")}}},
		"its name":        {Endorsements: tee.Endorsements{Collateral: map[string][]byte{"b": []byte("a")}}},
		"joined name":     {Endorsements: tee.Endorsements{Collateral: map[string][]byte{"ab": {}}}},
		"two collaterals": {Endorsements: tee.Endorsements{Collateral: map[string][]byte{"a": {}, "b": {}}}},
	} {
		add("input "+name, attest.DigestEndorsements(in))
	}
	at1, at2 := tee.Input{At: at}, tee.Input{At: at.Add(1)}
	if attest.DigestEndorsements(at1) != attest.DigestEndorsements(at2) {
		t.Error("the time is named beside the endorsements, not in them")
	}
}

// The fake is made of real steps: whatever byte of its evidence changes, one of
// them refuses.
func TestAnyChangedByteOfEvidenceIsRefused(t *testing.T) {
	f := attesttest.New(tee.Claims{})
	good, v := evidence(t, f), attest.NewVerifier(f)
	rapid.Check(t, func(t *rapid.T) {
		ev := tee.Evidence{Kind: tee.Software, Data: bytes.Clone(good.Data), Certificates: [][]byte{bytes.Clone(good.Certificates[0])}}
		target := ev.Data
		if rapid.Bool().Draw(t, "certificate") {
			target = ev.Certificates[0]
		}
		target[rapid.IntRange(0, len(target)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "mask"))
		if _, err := v.Verify(ev, f.Input(at), attest.BindTo(bound)); err == nil {
			t.Fatal("accepted")
		}
	})
}

// What a test sets cannot make the fake look like anything but a fake.
func TestFakeStaysAFake(t *testing.T) {
	f := attesttest.New(tee.Claims{TEE: tee.SNP, Platform: "real"})
	f.Set(func(c *tee.Claims) { c.TEE, c.Simulated, c.ReportData, c.Debug = tee.TDX, false, []byte("x"), true })
	v := must[*attest.Verified](t)(f.Verified(bound, at))
	if c := v.Claims; c.TEE != tee.Software || !c.Simulated || !c.Debug || c.Platform == "real" || !bytes.Equal(c.ReportData, bound[:]) {
		t.Errorf("claims %+v", c)
	}
	if _, err := f.Evidence(canceled(t), bound); err == nil {
		t.Error("evidence after its context has ended")
	}
	_, _, err := f.Verify(evidence(t, f), tee.Input{Roots: []*x509.Certificate{}, At: at})
	wantCodes(t, err, tee.ErrNotVerified, tee.CodeChain)
}

// quoting is a TEE whose report data is its evidence, as long as that is.
type quoting struct{ lying }

func (q quoting) Verify(ev tee.Evidence, _ tee.Input) (tee.Claims, []tee.Finding, error) {
	return tee.Claims{TEE: q.kind, ReportData: ev.Data}, nil, nil
}

func TestBindToShort(t *testing.T) {
	v := attest.NewVerifier(quoting{lying{kind: tee.TPM}})
	long := bytes.Repeat([]byte{7}, 65)
	for size := range long {
		ev := tee.Evidence{Kind: tee.TPM, Data: long[:size]}
		_, err := v.Verify(ev, tee.Input{At: at}, attest.BindToShort(long[:size]))
		if want := size >= 32 && size <= 64; (err == nil) != want {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for name, data := range map[string][]byte{"shorter": long[:47], "longer": long[:49], "none": nil, "padded": append(bytes.Clone(long[:48]), make([]byte, 16)...)} {
		_, err := v.Verify(tee.Evidence{Kind: tee.TPM, Data: data}, tee.Input{At: at}, attest.BindToShort(long[:48]))
		if got := attest.Codes(err); len(got) != 1 || got[0] != tee.CodeBinding {
			t.Errorf("%s: got %v, want binding", name, err)
		}
	}
}
