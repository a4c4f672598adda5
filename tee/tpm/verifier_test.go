package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strconv"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEveryScheme(t *testing.T) {
	for _, scheme := range []tpm.Scheme{tpm.RSASSA, tpm.RSAPSS, tpm.ECDSA} {
		for _, hash := range []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384, eventlog.SHA512} {
			c := chip(t, scheme)
			c.Hash = hash
			claims, _ := verifies(t, evidence(t, quoted(c)), c.Input(t))
			if want := scheme.String() + "-" + hash.String(); claims.Vendor["signature_scheme"] != want {
				t.Errorf("scheme %v, want %s", claims.Vendor["signature_scheme"], want)
			}
		}
		c := chip(t, scheme)
		c.Hash = eventlog.SHA1
		refuses(t, evidence(t, quoted(c)), c.Input(t), tee.CodeUnsupported)
	}
}

func TestClaims(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	c.Template.Selections = append(c.Template.Selections, tpm.Selection{Algorithm: eventlog.SHA384, Indices: []uint32{23}})
	ev, err := c.Evidence(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	got, findings := verifies(t, ev, c.Input(t))
	h, bank := sha256.New(), make(map[string]any)
	for i := range uint32(10) {
		h.Write(c.PCRs[eventlog.SHA256][i])
		bank[strconv.Itoa(int(i))] = hex.EncodeToString(c.PCRs[eventlog.SHA256][i])
	}
	reportData := [64]byte{1}
	want := tee.Claims{
		TEE: tee.TPM, Measurement: h.Sum(nil), ReportData: reportData[:], Platform: tpm.KeyID(c.Key.Public()), TCB: tee.TCBUnknown,
		Vendor: map[string]any{
			"pcrs":  map[string]any{"sha256": bank, "sha384": map[string]any{"23": hex.EncodeToString(make([]byte, 48))}},
			"clock": uint64(12345), "reset_count": uint64(3), "restart_count": uint64(1), "safe": true, "firmware_version": uint64(0x20160511),
			"ak_trust": "enrolled", "signature_scheme": "ecdsa-sha256", "event_log": true,
			"secure_boot": true, "uefi_debug_mode": false, "boot_firmware_version": "test", "kernel_command_line": "/vmlinuz quiet",
			"boot_applications": []any{hex.EncodeToString(eventlog.SHA256.Sum([]byte("boot loader")))},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(findings) > 0 {
		t.Errorf("findings %v", findings)
	}
}

// TestMeasurementNamesItsRegisters: whoever can run programs can give PCR 16 and
// 23 any value, so a quote of other registers must not have the measurement.
func TestMeasurementNamesItsRegisters(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	good, _ := verifies(t, evidence(t, quoted(c)), c.Input(t))
	if good.Measurement == nil {
		t.Fatal("no measurement")
	}
	all := c.Template.Selections[0].Indices
	for _, selection := range [][]uint32{all[:9], all[1:], {0}, {16, 17, 18, 19, 20, 21, 22, 23}} {
		c.Template.Selections = []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: selection}}
		if claims, _ := verifies(t, evidence(t, quoted(c)), c.Input(t)); claims.Measurement != nil {
			t.Errorf("quote of %v has measurement %s", selection, claims.Measurement)
		}
	}
	c.Template.Selections = []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: append(all[:10:10], 16, 23)}}
	if claims, _ := verifies(t, evidence(t, quoted(c)), c.Input(t)); !claims.Measurement.Equal(good.Measurement) {
		t.Error("more registers change the measurement")
	}
}

func TestSHA1BankIsAFinding(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	c.PCRs[eventlog.SHA1] = map[uint32][]byte{0: make([]byte, 20)}
	c.Template.Selections = []tpm.Selection{{Algorithm: eventlog.SHA1, Indices: []uint32{0}}}
	claims, findings := verifies(t, evidence(t, quoted(c)), c.Input(t))
	if claims.Measurement != nil || len(findings) != 1 || findings[0].Code != tee.CodeUnsupported {
		t.Errorf("measurement %v, findings %v", claims.Measurement, findings)
	}
}

func TestDebugIsAClaim(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	log, err := eventlog.Parse(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("UEFI Debug Mode")
	log.Events = append(log.Events, eventlog.NewEvent(7, eventlog.TypeAction, text, text, log.Algorithms...))
	replayed, err := log.Replay(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	c.PCRs[eventlog.SHA256][7] = replayed[7]
	ev := evidence(t, quoted(c))
	ev.EventLog = log.Encode()
	if claims, _ := verifies(t, ev, c.Input(t)); !claims.Debug || claims.Vendor["uefi_debug_mode"] != true {
		t.Errorf("claims %+v", claims)
	}
}

func TestDetect(t *testing.T) {
	ev := evidence(t, quoted(chip(t, tpm.ECDSA)))
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"ours": {ev.Data, true}, "empty": {nil, false}, "short": {ev.Data[:6], false}, "JSON": {[]byte(`{"quote":1}`), false},
		"dump": {[]byte(` {"Static":{"TPMVersion":2}}`), true}, "protobuf": {[]byte("\x0A\x10\x00\x01\x00\x0B\x00\x05\x00\x72\x00\x00\x00\x10\x00\x14\x00\x0B"), true},
		"other protobuf": {[]byte("\x0A\x10aaaaaaaaaaaaaaaa"), false},
	} {
		if got := tpm.New().Detect(c.data); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// TestEveryFlipIsRefused changes every byte of evidence in many ways. Nothing in
// our format is unsigned but the attestation key's public area, of which the key
// is compared with an enrolled one, and the rest is what [tpm.Public.CheckAK] and
// the name are about.
func TestEveryFlipIsRefused(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	good := evidence(t, quoted(c))
	in := c.Input(t)
	public := bytes.Index(good.Data, c.Public())
	// The name's algorithm, attributes, policy, scheme of the key: 4 to 19.
	unsigned := func(at int) bool { return at >= public+2 && at < public+22 }
	mutations := 0
	ev := tee.Evidence{Kind: tee.TPM, Data: bytes.Clone(good.Data)}
	for at := range good.Data {
		for flip := 1; flip < 256; flip += 13 {
			ev.Data[at] = good.Data[at] ^ byte(flip)
			mutations++
			if claims, _, err := tpm.New().Verify(ev, in); err == nil && !unsigned(at) {
				t.Fatalf("accepted evidence with byte %#x changed by %#x: %+v", at, flip, claims)
			}
		}
		ev.Data[at] = good.Data[at]
	}
	if mutations < 10_000 {
		t.Errorf("only %d mutations", mutations)
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	good := evidence(t, quoted(c))
	for n := range good.Data {
		code := tee.CodeParse
		if n < 7 {
			code = tee.CodeUnknownFormat
		}
		refuses(t, tee.Evidence{Kind: tee.TPM, Data: good.Data[:n]}, c.Input(t), code)
	}
	refuses(t, tee.Evidence{Kind: tee.TPM, Data: append(good.Data, 0)}, c.Input(t), tee.CodeParse)
	s := quoted(c)
	for n := range s.Quote {
		if _, err := tpm.ParseQuote(s.Quote[:n]); err == nil {
			t.Errorf("read a quote of %d bytes", n)
		}
	}
	for n := range s.Signature {
		if _, err := tpm.ParseSignature(s.Signature[:n]); err == nil {
			t.Errorf("read a signature of %d bytes", n)
		}
	}
	for _, public := range [][]byte{c.Public(), chip(t, tpm.RSAPSS).Public()} {
		for n := range public {
			if _, err := tpm.ParsePublic(public[:n]); err == nil {
				t.Errorf("read a public area of %d bytes", n)
			}
		}
		if _, err := tpm.ParsePublic(append(public, 0)); err == nil {
			t.Error("read a public area with a byte after it")
		}
	}
}

// TestQuoteRoundTrip writes any quote and reads it again.
func TestQuoteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := func(name string, most int) []byte { return rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name) }
		q := tpm.Quote{
			QualifiedSigner: field("signer", 66), ExtraData: field("extra data", 66), PCRDigest: field("digest", 64),
			Clock: rapid.Uint64().Draw(t, "clock"), ResetCount: rapid.Uint32().Draw(t, "resets"), RestartCount: rapid.Uint32().Draw(t, "restarts"),
			Safe: rapid.Bool().Draw(t, "safe"), FirmwareVersion: rapid.Uint64().Draw(t, "version"),
		}
		for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom(eventlog.Algorithms()), 0, 4, rapid.ID).Draw(t, "banks") {
			s := tpm.Selection{Algorithm: a}
			for i := range uint32(24) {
				if rapid.Bool().Draw(t, "selected") {
					s.Indices = append(s.Indices, i)
				}
			}
			q.Selections = append(q.Selections, s)
		}
		b := tpmtest.EncodeQuote(q)
		got, err := tpm.ParseQuote(b)
		if err != nil {
			t.Fatal(err)
		}
		if again := tpmtest.EncodeQuote(*got); !bytes.Equal(again, b) {
			t.Fatal("reading gives another quote")
		}
	})
}

// TestStatementRoundTrip writes a statement and reads it again.
func TestStatementRoundTrip(t *testing.T) {
	c := chip(t, tpm.RSAPSS)
	s := quoted(c)
	ev := evidence(t, s)
	again, err := tpm.ParseStatement(ev.Data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Error(diff)
	}
}

// TestVerdictIsPure asks one verifier for many verdicts in any order and wants
// what a new one says each time: what it remembers changes nothing.
func TestVerdictIsPure(t *testing.T) {
	a, b := chip(t, tpm.ECDSA), tpmtest.New(t, tpm.ECDSA)
	root := tpmtest.NewAuthority(t, "maker", nil, tpmtest.CertificateOptions{})
	certified := quoted(b)
	certified.AKCertificate = root.Certify(t, b.Key.Public(), tpmtest.CertificateOptions{})
	evidences := []tee.Evidence{evidence(t, quoted(a)), evidence(t, quoted(b)), evidence(t, certified)}
	trusts := []map[string][]byte{nil, tpmtest.TrustedAK(t, a), tpmtest.TrustedAK(t, b), tpmtest.TrustedAK(t, a, b), {tpm.TrustedAK: []byte("x")}}
	shared := tpm.New()
	rapid.Check(t, func(t *rapid.T) {
		ev := rapid.SampledFrom(evidences).Draw(t, "evidence")
		in := tee.Input{At: tpmtest.At, Endorsements: tee.Endorsements{Collateral: rapid.SampledFrom(trusts).Draw(t, "trust")}}
		if rapid.Bool().Draw(t, "roots") {
			in.Roots = root.Input().Roots
		}
		claims, findings, err := shared.Verify(ev, in)
		againClaims, againFindings, againErr := tpm.New().Verify(ev, in)
		if !reflect.DeepEqual(claims, againClaims) || !reflect.DeepEqual(findings, againFindings) || !reflect.DeepEqual(err, againErr) {
			t.Fatalf("one verifier says %v %v, another %v %v", findings, err, againFindings, againErr)
		}
	})
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	v := tpm.New()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			c := tpmtest.New(t, tpm.ECDSA)
			for range 5 {
				if _, _, err := v.Verify(evidence(t, quoted(c)), c.Input(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
