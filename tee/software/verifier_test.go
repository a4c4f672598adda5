//go:build linux

package software

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"
)

func TestVerify(t *testing.T) {
	p := newPlatform(t)
	doc, sig := signedDocument(t, newKey(t), 7, 3)
	in := start(t, p, doc, sig)
	if err := in.SetSandbox(t.Context(), []string{"seccomp", "landlock-v6"}, []string{"cgroup"}); err != nil {
		t.Fatal(err)
	}
	rd := [64]byte{1, 2, 3}
	ev, err := in.Evidence(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	v := New()
	if !v.Detect(ev.Data) || v.Detect(ev.Data[1:]) || v.Detect(nil) {
		t.Error("Detect does not tell evidence from other bytes")
	}
	for range 2 { // the second time by the remembered certificate
		got, findings, err := v.Verify(ev, inputFor(t, p))
		if err != nil || len(findings) != 0 {
			t.Fatal(err, findings)
		}
		digest, _ := doc.Digest()
		id := sha256.Sum256(must(x509.ParseCertificate(p.Info().PlatformCertificate)).RawSubjectPublicKeyInfo)
		want := tee.Claims{
			TEE: tee.Software, Simulated: true, Measurement: Expect(testRuntime, digest), LaunchDigest: digest[:],
			Signer: doc.Signer, Product: 7, SVN: 3, ReportData: rd[:], InstanceID: "i-1",
			Platform: hex.EncodeToString(id[:]), TCB: tee.TCBNotApplicable,
			Vendor: map[string]any{
				"runtime_digest": hex.EncodeToString(testRuntime[:]), "role": "workload", "profile": Profile,
				"walls": []any{"seccomp", "landlock-v6"}, "missing_walls": []any{"cgroup"},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestDebugIsInTheEvidence(t *testing.T) {
	p := newPlatform(t)
	doc := testDocument()
	doc.Debug = true
	ev := must(start(t, p, doc, nil).Evidence(t.Context(), [64]byte{}))
	c, _, err := New().Verify(ev, inputFor(t, p))
	if err != nil || !c.Debug || !c.Simulated {
		t.Errorf("debug launch: claims %+v, error %v", c, err)
	}
}

func TestSilentAgentHasMissingWalls(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	ev := must(in.Evidence(t.Context(), [64]byte{}))
	c, _, err := New().Verify(ev, inputFor(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{"unreported"}, c.Vendor["missing_walls"]); diff != "" {
		t.Error(diff)
	}
	wantCode(t, in.SetSandbox(t.Context(), []string{"seccomp"}, nil), tee.CodeUnsupported)
}

func TestVerifyRefusesInput(t *testing.T) {
	p, other := newPlatform(t), newPlatform(t)
	ev := must(start(t, p, testDocument(), nil).Evidence(t.Context(), [64]byte{}))
	good := inputFor(t, p)
	cert := must(x509.ParseCertificate(p.Info().PlatformCertificate))
	cases := []struct {
		name string
		ev   tee.Evidence
		in   tee.Input
		code tee.Code
	}{
		{"zero input", ev, tee.Input{}, tee.CodeTime},
		{"no time", ev, tee.Input{Roots: good.Roots}, tee.CodeTime},
		{"no roots", ev, tee.Input{At: good.At}, tee.CodeChain},
		{"nil root", ev, tee.Input{At: good.At, Roots: tee.Roots{nil}}, tee.CodeChain},
		{"foreign root, equal name", ev, inputFor(t, other), tee.CodeChain},
		{"leaf as root", ev, tee.Input{At: good.At, Roots: tee.Roots{cert}}, tee.CodeChain},
		{"before validity", ev, tee.Input{At: cert.NotBefore.Add(-time.Second), Roots: good.Roots}, tee.CodeExpired},
		{"after validity", ev, tee.Input{At: cert.NotAfter.Add(time.Second), Roots: good.Roots}, tee.CodeExpired},
		{"other kind", tee.Evidence{Kind: tee.SNP, Data: ev.Data}, good, tee.CodeUnknownFormat},
		{"no kind", tee.Evidence{Data: ev.Data}, good, tee.CodeUnknownFormat},
		{"empty", tee.Evidence{Kind: tee.Software}, good, tee.CodeParse},
		{"too long", tee.Evidence{Kind: tee.Software, Data: make([]byte, tee.MaxEvidence+1)}, good, tee.CodeParse},
		{"truncated", tee.Evidence{Kind: tee.Software, Data: ev.Data[:len(ev.Data)-1]}, good, tee.CodeParse},
		{"trailing byte", tee.Evidence{Kind: tee.Software, Data: append(bytes.Clone(ev.Data), 0)}, good, tee.CodeParse},
	}
	v := New()
	// A remembered certificate must change no verdict.
	if _, _, err := v.Verify(ev, good); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			claims, _, err := v.Verify(c.ev, c.in)
			f := wantRefused(t, claims, err, c.code)
			if c.name == "no roots" && !strings.Contains(f.Hint, "--roots DATA/platform/root.pem") {
				t.Errorf("hint %q", f.Hint)
			}
		})
	}
	in := good
	in.Roots = append(rootsOf(t, other), good.Roots...)
	if _, _, err := v.Verify(ev, in); err != nil {
		t.Errorf("two roots with one name: %v", err)
	}
}

func TestEveryMutatedByteIsRefused(t *testing.T) {
	p := newPlatform(t)
	ev := must(start(t, p, testDocument(), nil).Evidence(t.Context(), [64]byte{9}))
	in, v := inputFor(t, p), New()
	for i := range ev.Data {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			m := bytes.Clone(ev.Data)
			m[i] ^= flip
			if c, _, err := v.Verify(tee.Evidence{Kind: tee.Software, Data: m}, in); err == nil {
				t.Fatalf("byte %d ^ %#x accepted: %+v", i, flip, c)
			}
		}
	}
}

// forger makes evidence that is properly signed and differs where a case says.
type forger struct {
	key    *ecdsa.PrivateKey
	header cose.ProtectedHeader
	open   cose.UnprotectedHeader
	claims map[any]any
}

func (f forger) evidence(t *testing.T) []byte {
	t.Helper()
	payload, err := encode(f.claims)
	if err != nil {
		t.Fatal(err)
	}
	return f.over(t, payload)
}

func (f forger) over(t *testing.T, payload []byte) []byte {
	t.Helper()
	signer, err := cose.NewSigner(cose.AlgorithmES256, f.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cose.Sign1(rand.Reader, signer, cose.Headers{Protected: f.header, Unprotected: f.open}, payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newForger(t *testing.T, p *Platform) forger {
	ev := must(start(t, p, testDocument(), nil).Evidence(t.Context(), [64]byte{1}))
	s := must(parseSign1(ev.Data))
	f := forger{key: p.attestationKey(), claims: make(map[any]any), header: cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: cose.AlgorithmES256, cose.HeaderLabelX5Chain: p.Info().PlatformCertificate,
	}}
	if err := cbor.Unmarshal(s.Payload, &f.claims); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSignedButWrongIsRefused(t *testing.T) {
	p := newPlatform(t)
	cases := []struct {
		name   string
		change func(*forger)
		code   tee.Code
		claim  string
	}{
		{"simulated false", func(f *forger) { f.claims["simulated"] = false }, tee.CodeUnsupported, "simulated"},
		{"simulated absent", func(f *forger) { delete(f.claims, "simulated") }, tee.CodeUnsupported, "simulated"},
		{"simulated null", func(f *forger) { f.claims["simulated"] = nil }, tee.CodeUnsupported, "simulated"},
		{"simulated is text", func(f *forger) { f.claims["simulated"] = "true" }, tee.CodeParse, "claims"},
		{"Simulated beside simulated", func(f *forger) { f.claims["Simulated"] = false }, tee.CodeParse, "claims"},
		{"other profile", func(f *forger) { f.claims[uint64(265)] = Profile + "1" }, tee.CodeUnsupported, "eat_profile"},
		{"no profile", func(f *forger) { delete(f.claims, uint64(265)) }, tee.CodeUnsupported, "eat_profile"},
		{"unknown claim", func(f *forger) { f.claims["x"] = 1 }, tee.CodeParse, "claims"},
		{"unknown numbered claim", func(f *forger) { f.claims[uint64(4)] = 1 }, tee.CodeParse, "claims"},
		{"missing claim", func(f *forger) { delete(f.claims, "walls") }, tee.CodeParse, "claims"},
		{"null claim", func(f *forger) { f.claims["walls"] = nil; f.claims["svn"] = nil }, tee.CodeParse, "claims"},
		{"short nonce", func(f *forger) { f.claims[uint64(10)] = make([]byte, 63) }, tee.CodeParse, "eat_nonce"},
		{"two nonces", func(f *forger) { f.claims[uint64(10)] = [][]byte{make([]byte, 64), make([]byte, 64)} }, tee.CodeParse, "claims"},
		{"other ueid", func(f *forger) { f.claims[uint64(256)] = make([]byte, 33) }, tee.CodePlatform, "ueid"},
		{"dbgstat disabled", func(f *forger) { f.claims[uint64(263)] = 1 }, tee.CodeParse, "dbgstat"},
		{"dbgstat unknown", func(f *forger) { f.claims[uint64(263)] = 5 }, tee.CodeParse, "dbgstat"},
		{"other measurement", func(f *forger) { f.claims["measurement"] = make([]byte, 32) }, tee.CodeBinding, "measurement"},
		{"no measurement", func(f *forger) { f.claims["measurement"] = []byte{} }, tee.CodeBinding, "measurement"},
		{"other launch digest", func(f *forger) { f.claims["launch_digest"] = make([]byte, 32) }, tee.CodeBinding, "measurement"},
		{"short launch digest", func(f *forger) { f.claims["launch_digest"] = make([]byte, 31) }, tee.CodeParse, "launch_digest and runtime_digest"},
		{"short signer", func(f *forger) { f.claims["signer"] = make([]byte, 20) }, tee.CodeParse, "signer"},
		{"svn without signer", func(f *forger) { f.claims["svn"] = 9 }, tee.CodeParse, "signer"},
		{"svn too large", func(f *forger) { f.claims["svn"] = uint64(1) << 32 }, tee.CodeParse, "claims"},
		{"no instance id", func(f *forger) { f.claims["instance_id"] = "" }, tee.CodeParse, "claims"},
		{"control byte in role", func(f *forger) { f.claims["role"] = "work\x1bload" }, tee.CodeParse, "claims"},
		{"many walls", func(f *forger) { f.claims["walls"] = strings.Split(strings.Repeat("w,", 65), ",") }, tee.CodeParse, "claims"},
		{"extra header", func(f *forger) { f.header[cose.HeaderLabelKeyID] = []byte("k") }, tee.CodeParse, "protected header"},
		{"critical header", func(f *forger) {
			f.header[cose.HeaderLabelCritical] = []any{"x"}
			f.header["x"] = 1
		}, tee.CodeParse, "protected header"},
		{"no certificate", func(f *forger) { delete(f.header, cose.HeaderLabelX5Chain) }, tee.CodeParse, "protected header"},
		{"list of certificates", func(f *forger) { f.header[cose.HeaderLabelX5Chain] = []any{[]byte{1}, []byte{2}} }, tee.CodeParse, "protected header"},
		{"certificate is not DER", func(f *forger) { f.header[cose.HeaderLabelX5Chain] = []byte{1} }, tee.CodeParse, "platform certificate"},
		{"unprotected header", func(f *forger) { f.open = cose.UnprotectedHeader{cose.HeaderLabelKeyID: []byte("k")} }, tee.CodeParse, "evidence"},
		{"root signs evidence", func(f *forger) {
			f.key, _, _ = keyAndCertificate(p.fuses.RootKey, p.fuses.RootCertificate)
			f.header[cose.HeaderLabelX5Chain] = p.fuses.RootCertificate
		}, tee.CodeChain, "platform certificate"},
		{"signed by another key", func(f *forger) { f.key = newKey(t) }, tee.CodeSignature, "signature"},
	}
	v, in := New(), inputFor(t, p)
	if _, _, err := v.Verify(tee.Evidence{Kind: tee.Software, Data: newForger(t, p).evidence(t)}, in); err != nil {
		t.Fatalf("the unchanged forgery is refused: %v", err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newForger(t, p)
			c.change(&f)
			claims, _, err := v.Verify(tee.Evidence{Kind: tee.Software, Data: f.evidence(t)}, in)
			if got := wantRefused(t, claims, err, c.code); got.Claim != c.claim {
				t.Errorf("refused for %q, want %q: %v", got.Claim, c.claim, err)
			}
		})
	}
}

func TestEncodingsAreRefused(t *testing.T) {
	p := newPlatform(t)
	f := newForger(t, p)
	good := f.evidence(t)
	s := must(parseSign1(good))
	payload := s.Payload
	// Indefinite-length map with the same entries; a claim twice; a longer integer.
	indefinite := append(append([]byte{0xbf}, payload[1:]...), 0xff)
	twice := append([]byte{payload[0] + 1}, payload[1:]...)
	twice = append(twice, append([]byte{0x69}, "simulated\xf5"...)...)
	long := bytes.Replace(payload, []byte("\x63svn\x00"), []byte("\x63svn\x18\x00"), 1)
	if bytes.Equal(long, payload) {
		t.Fatal("svn not found")
	}
	rebuild := func(change func(*sign1)) []byte {
		c := s
		change(&c)
		return append([]byte{tagSign1}, must(encode(c))...)
	}
	algNone := must(encode(map[int64]any{1: 0, 33: p.Info().PlatformCertificate}))
	algES384 := must(encode(map[int64]any{1: -35, 33: p.Info().PlatformCertificate}))
	detached := bytes.Replace(good, must(encode(payload)), []byte{0xf6}, 1)
	cases := []struct {
		name string
		data []byte
		code tee.Code
	}{
		{"indefinite claims", f.over(t, indefinite), tee.CodeParse},
		{"duplicate claim", f.over(t, twice), tee.CodeParse},
		{"claims with a longer integer", f.over(t, long), tee.CodeParse},
		{"claims with a trailing byte", f.over(t, append(bytes.Clone(payload), 0)), tee.CodeParse},
		{"claims are a list", f.over(t, []byte{0x80}), tee.CodeParse},
		{"claims are null", f.over(t, []byte{0xf6}), tee.CodeUnsupported},
		{"empty claims", f.over(t, []byte{}), tee.CodeParse},
		{"detached payload", detached, tee.CodeParse},
		{"alg none", rebuild(func(c *sign1) { c.Protected = algNone }), tee.CodeUnsupported},
		{"alg ES384", rebuild(func(c *sign1) { c.Protected = algES384 }), tee.CodeUnsupported},
		{"no protected header", rebuild(func(c *sign1) { c.Protected = nil }), tee.CodeParse},
		{"no signature", rebuild(func(c *sign1) { c.Signature = nil }), tee.CodeParse},
		{"long signature", rebuild(func(c *sign1) { c.Signature = make([]byte, 65) }), tee.CodeParse},
		{"zero signature", rebuild(func(c *sign1) { c.Signature = make([]byte, 64) }), tee.CodeSignature},
		{"untagged", good[1:], tee.CodeParse},
		{"tagged twice", append([]byte{tagSign1}, good...), tee.CodeParse},
		{"longer tag", append([]byte{0xd8, 18}, good[1:]...), tee.CodeParse},
		{"indefinite list", append([]byte{tagSign1, 0x9f}, append(bytes.Clone(good[2:]), 0xff)...), tee.CodeParse},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			claims, _, err := New().Verify(tee.Evidence{Kind: tee.Software, Data: c.data}, inputFor(t, p))
			wantRefused(t, claims, err, c.code)
		})
	}
}

func TestVerifyConcurrently(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	v, input := New(), inputFor(t, p)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ev, err := in.Evidence(t.Context(), [64]byte{byte(i)})
			if err != nil {
				t.Error(err)
				return
			}
			if c, _, err := v.Verify(ev, input); err != nil || c.ReportData[0] != byte(i) {
				t.Error(c, err)
			}
		})
	}
	wg.Wait()
}
