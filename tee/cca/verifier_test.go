package cca_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/cca"
	"github.com/cloister-cc/cloister/tee/cca/ccatest"
	"github.com/google/go-cmp/cmp"
)

// evidence is a token of a platform with the report data 1.
func evidence(tb testing.TB, p *ccatest.Platform) tee.Evidence {
	tb.Helper()
	ev, err := p.Evidence(tb.Context(), [64]byte{1})
	if err != nil {
		tb.Fatal(err)
	}
	return ev
}

// codesOf are the codes of a refusal without claims, sorted, each once.
func codesOf(tb testing.TB, ev tee.Evidence, in tee.Input) []tee.Code {
	tb.Helper()
	claims, findings, err := cca.New().Verify(ev, in)
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || !errors.Is(err, tee.ErrNotVerified) || claims.TEE != "" || claims.Vendor != nil || findings != nil {
		tb.Fatalf("claims %+v, error %v", claims, err)
	}
	var codes []tee.Code
	for _, f := range e.Failures {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func TestClaims(t *testing.T) {
	p := ccatest.New(t)
	for _, p.CMW = range []bool{false, true} {
		got, findings, err := cca.New().Verify(evidence(t, p), p.Input(t))
		if err != nil || len(findings) > 0 {
			t.Fatal(findings, err)
		}
		if got.TEE != tee.ArmCCA || got.Debug || got.Simulated || got.Measurement.String() != hex.EncodeToString(bytes.Repeat([]byte{0x11}, 48)) || got.TCB != tee.TCBUnknown ||
			!bytes.Equal(got.ReportData, append([]byte{1}, make([]byte, 63)...)) || !bytes.Equal(got.LaunchDigest, bytes.Repeat([]byte{0xDC}, 32)) ||
			got.Platform != cca.KeyID(&p.CPAK.PublicKey) || len(got.Platform) != 64 || got.InstanceID != "" {
			t.Errorf("claims %+v", got)
		}
		for name, want := range map[string]any{
			"lifecycle": "secured", "lifecycle_value": uint64(0x3000), "instance_id": "01" + hex.EncodeToString(bytes.Repeat([]byte{2}, 32)), "platform_config": "010203",
			"realm_hash_algorithm": "sha-384", "rem3": hex.EncodeToString(make([]byte, 48)), "verification_service": "https://verifier.example/",
		} {
			if got.Vendor[name] != want {
				t.Errorf("%s is %v, want %v", name, got.Vendor[name], want)
			}
		}
		component := map[string]any{"type": "RMM", "measurement": hex.EncodeToString(bytes.Repeat([]byte{3}, 32)), "version": "1.0.0", "signer": hex.EncodeToString(bytes.Repeat([]byte{4}, 32)), "hash_algorithm": "sha-256"}
		if diff := cmp.Diff([]any{component}, got.Vendor["software_components"]); diff != "" {
			t.Error(diff)
		}
	}
}

// TestAlgorithms: any of the three, for either token.
func TestAlgorithms(t *testing.T) {
	curves := []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
	for _, platform := range curves {
		for _, realm := range curves {
			p := &ccatest.Platform{CPAK: ccatest.NewKey(t, platform), RAK: ccatest.NewKey(t, realm)}
			if _, _, err := cca.New().Verify(evidence(t, p), p.Input(t)); err != nil {
				t.Errorf("%s and %s: %v", platform.Params().Name, realm.Params().Name, err)
			}
		}
	}
}

// TestDebug: a platform in any other state than secured is one that somebody may
// look into.
func TestDebug(t *testing.T) {
	for value, want := range map[int]string{
		0: "unknown", 0x10FF: "assembly_and_test", 0x2000: "rot_provisioning", 0x30FF: "", 0x4000: "non_cca_platform_debug", 0x5000: "recoverable_cca_platform_debug", 0x60AB: "decommissioned",
	} {
		p := ccatest.New(t)
		p.Change = func(platform, _ map[int]any) { platform[2395] = value }
		got, _, err := cca.New().Verify(evidence(t, p), p.Input(t))
		if err != nil || got.Debug != (want != "") || got.Debug && got.Vendor["lifecycle"] != want {
			t.Errorf("%#x: debug %t, %v, %v", value, got.Debug, got.Vendor["lifecycle"], err)
		}
	}
}

func TestRefuses(t *testing.T) {
	p := ccatest.New(t)
	in := p.Input(t)
	change := func(f func(platform, realm map[int]any)) func() tee.Evidence {
		return func() tee.Evidence {
			q := *p
			q.Change = f
			return evidence(t, &q)
		}
	}
	realm := func(label int, v any) func() tee.Evidence {
		return change(func(_, realm map[int]any) { realm[label] = v })
	}
	platform := func(label int, v any) func() tee.Evidence {
		return change(func(platform, _ map[int]any) { platform[label] = v })
	}
	key := realm(44237, []byte{0xA0})
	for name, c := range map[string]struct {
		make  func() tee.Evidence
		codes []tee.Code
	}{
		"another platform": {func() tee.Evidence { q := *p; q.CPAK = ccatest.NewKey(t, elliptic.P384()); return evidence(t, &q) }, []tee.Code{tee.CodeSignature}},
		"on another curve": {func() tee.Evidence { q := *p; q.CPAK = ccatest.NewKey(t, elliptic.P256()); return evidence(t, &q) }, []tee.Code{tee.CodeSignature}},
		"another realm's token": {func() tee.Evidence {
			q := *p
			publicKey := []byte(nil)
			p.Change = func(_, realm map[int]any) { publicKey = realm[44237].([]byte) }
			evidence(t, p)
			p.Change = nil
			q.RAK = ccatest.NewKey(t, elliptic.P384())
			q.Change = func(_, realm map[int]any) { realm[44237] = publicKey }
			return evidence(t, &q)
		}, []tee.Code{tee.CodeSignature, tee.CodeBinding}},
		"tokens apart":        {platform(10, make([]byte, 32)), []tee.Code{tee.CodeBinding}},
		"other kind":          {func() tee.Evidence { return tee.Evidence{Kind: tee.SNP, Data: evidence(t, p).Data} }, []tee.Code{tee.CodeUnknownFormat}},
		"empty":               {func() tee.Evidence { return tee.Evidence{Kind: tee.ArmCCA} }, []tee.Code{tee.CodeParse}},
		"long":                {func() tee.Evidence { return tee.Evidence{Kind: tee.ArmCCA, Data: make([]byte, 16<<10+1)} }, []tee.Code{tee.CodeParse}},
		"platform profile":    {platform(265, "x"), []tee.Code{tee.CodeUnsupported}},
		"realm profile":       {realm(265, "x"), []tee.Code{tee.CodeUnsupported}},
		"hash of the key":     {realm(44240, "md5"), []tee.Code{tee.CodeUnsupported}},
		"short challenge":     {realm(10, make([]byte, 63)), []tee.Code{tee.CodeParse}},
		"measurement":         {realm(44238, make([]byte, 20)), []tee.Code{tee.CodeParse}},
		"three measurements":  {realm(44239, []any{make([]byte, 32)}), []tee.Code{tee.CodeParse}},
		"personalization":     {realm(44235, []byte{1}), []tee.Code{tee.CodeParse}},
		"no key":              {key, []tee.Code{tee.CodeParse}},
		"long key":            {realm(44237, make([]byte, 257)), []tee.Code{tee.CodeParse}},
		"instance of a kind":  {platform(256, make([]byte, 33)), []tee.Code{tee.CodeParse}},
		"short instance":      {platform(256, []byte{1}), []tee.Code{tee.CodeParse}},
		"implementation":      {platform(2396, []byte{1}), []tee.Code{tee.CodeParse}},
		"lifecycle":           {platform(2395, 0x3100), []tee.Code{tee.CodeParse}},
		"lifecycle is text":   {platform(2395, "secured"), []tee.Code{tee.CodeParse}},
		"no firmware":         {platform(2399, []any{}), []tee.Code{tee.CodeParse}},
		"firmware unmeasured": {platform(2399, []any{map[int]any{1: "BL"}}), []tee.Code{tee.CodeParse}},
		"config":              {platform(2401, make([]byte, 1025)), []tee.Code{tee.CodeParse}},
		"control characters":  {platform(2400, "a\x1Bb"), []tee.Code{tee.CodeParse}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := codesOf(t, c.make(), in), slices.Sorted(slices.Values(c.codes)); !slices.Equal(got, want) {
				t.Errorf("refused with %v, want %v", got, want)
			}
		})
	}
	ev := evidence(t, p)
	for name, c := range map[string]struct {
		change func(*tee.Input)
		code   tee.Code
	}{
		"nobody is enrolled": {func(in *tee.Input) { in.Endorsements.Collateral = nil }, tee.CodeChain},
		"no time":            {func(in *tee.Input) { in.At = tee.Input{}.At }, tee.CodeTime},
		"no PEM":             {func(in *tee.Input) { in.Endorsements.Collateral = map[string][]byte{cca.TrustedCPAK: []byte("x")} }, tee.CodeParse},
		"bytes after": {func(in *tee.Input) {
			in.Endorsements.Collateral[cca.TrustedCPAK] = append(in.Endorsements.Collateral[cca.TrustedCPAK], 'x')
		}, tee.CodeParse},
	} {
		in := p.Input(t)
		c.change(&in)
		if got := codesOf(t, ev, in); !slices.Equal(got, []tee.Code{c.code}) {
			t.Errorf("%s: refused with %v, want %s", name, got, c.code)
		}
	}
}

// TestEveryFlipIsRefused changes every byte of a token.
func TestEveryFlipIsRefused(t *testing.T) {
	p := &ccatest.Platform{CPAK: ccatest.NewKey(t, elliptic.P256()), RAK: ccatest.NewKey(t, elliptic.P256())} // which is faster
	in, v := p.Input(t), cca.New()
	for _, p.CMW = range []bool{false, true} {
		ev := evidence(t, p)
		for at := range ev.Data {
			for _, flip := range []byte{1 << (at % 8), 0xFF} {
				ev.Data[at] ^= flip
				if _, _, err := v.Verify(ev, in); err == nil {
					t.Fatalf("accepted a token with another byte %#x", at)
				}
				ev.Data[at] ^= flip
			}
		}
		for n := range ev.Data {
			if _, _, err := v.Verify(tee.Evidence{Kind: tee.ArmCCA, Data: ev.Data[:n]}, in); err == nil {
				t.Fatalf("accepted %d bytes of a token", n)
			}
		}
		if _, _, err := v.Verify(tee.Evidence{Kind: tee.ArmCCA, Data: append(ev.Data, 0)}, in); err == nil {
			t.Fatal("accepted a token with a byte after it")
		}
	}
}

// veraisonKey is the platform key of the recorded token: one for tests, of the same
// source.
const veraisonKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMKBCTNIcKUSDii11ySs3526iDZ8A
iTo7Tu6KPAqv7D7gS2XpJFbZiItSs3m9+9Ue6GnvHw/GW2ZZaVtszggXIw==
-----END PUBLIC KEY-----
`

// TestRecorded verifies a token that another implementation made.
func TestRecorded(t *testing.T) {
	ev := recorded(t)
	in := tee.Input{At: ccatest.At, Endorsements: tee.Endorsements{Collateral: map[string][]byte{cca.TrustedCPAK: []byte(veraisonKey)}}}
	claims, _, err := cca.New().Verify(ev, in)
	if err != nil {
		t.Fatal(err)
	}
	components, _ := claims.Vendor["software_components"].([]any)
	if claims.Debug || claims.Vendor["profile"] != "http://arm.com/CCA-SSD/1.0.0" || len(components) != 4 || len(claims.ReportData) != 64 ||
		!bytes.Equal(claims.Measurement, bytes.Repeat([]byte("C"), 64)) || claims.LaunchDigest != nil {
		t.Errorf("claims %+v", claims)
	}
	in.Endorsements.Collateral = ccatest.Trusted(t, ccatest.New(t))
	if got := codesOf(t, ev, in); !slices.Equal(got, []tee.Code{tee.CodeSignature}) {
		t.Errorf("with another key: %v", got)
	}
}

func recorded(tb testing.TB) tee.Evidence {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "veraison-token.cbor"))
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Evidence{Kind: tee.ArmCCA, Data: b}
}

func TestDetect(t *testing.T) {
	p := ccatest.New(t)
	v := cca.New()
	if v.Kind() != tee.ArmCCA || p.Kind() != tee.ArmCCA || !v.Detect(evidence(t, p).Data) || !v.Detect(recorded(t).Data) {
		t.Error("a token is not recognised")
	}
	p.CMW = true
	if !v.Detect(evidence(t, p).Data) {
		t.Error("a token in a CMW is not recognised")
	}
	for _, b := range [][]byte{nil, {0xD9}, {0xD9, 0x01, 0x8F}, {0xD9, 0x01, 0x8F, 0x80}, []byte("{}"), {0xD2, 0x84, 0x44, 0xA1}} {
		if v.Detect(b) {
			t.Errorf("%x is recognised", b)
		}
	}
}

func FuzzVerify(f *testing.F) {
	p := ccatest.New(f)
	in, v := p.Input(f), cca.New()
	f.Add(evidence(f, p).Data)
	f.Add(recorded(f).Data)
	p.CMW = true
	f.Add(evidence(f, p).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		claims, _, err := v.Verify(tee.Evidence{Kind: tee.ArmCCA, Data: data}, in)
		if err != nil {
			if claims.TEE != "" || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("claims %v, error %v", claims, err)
			}
			return
		}
		// The keys are ours, so what verifies is what this platform said.
		if claims.Measurement[0] != 0x11 || claims.ReportData[0] != 1 || !v.Detect(data) {
			t.Fatalf("claims %+v", claims)
		}
	})
}
