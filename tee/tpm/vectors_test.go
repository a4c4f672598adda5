package tpm_test

import (
	"crypto"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// vectorsDir holds real evidence. It is beside the repository, not in it.
const vectorsDir = "../../../shared/vectors/attest"

func vector(tb testing.TB, name string) tee.Evidence {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err != nil {
		tb.Skipf("no vectors: %v; this test needs ../shared/vectors/attest beside the repository", err)
	}
	return tee.Evidence{Kind: tee.TPM, Data: b}
}

// input enrols the attestation key that evidence itself has, as its owner would
// have done before.
func input(tb testing.TB, ev tee.Evidence) tee.Input {
	tb.Helper()
	s, err := tpm.ParseStatement(ev.Data)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := tpm.ParsePublic(s.AKPublic)
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Input{At: tpmtest.At, Endorsements: tee.Endorsements{Collateral: trusted(tb, p.Key)}}
}

// TestGCE verifies a real vTPM of Google, in the protobuf of go-tpm-tools.
func TestGCE(t *testing.T) {
	ev := vector(t, "tpm-gce-cos85/attestation.pb")
	if !tpm.New().Detect(ev.Data) {
		t.Error("not detected")
	}
	in := input(t, ev)
	claims, findings := verifies(t, ev, in)
	if len(claims.ReportData) != 0 || len(claims.Measurement) != 32 || claims.Simulated || claims.Debug || len(findings) > 0 {
		t.Errorf("claims %+v, findings %v", claims, findings)
	}
	for name, want := range map[string]any{
		"secure_boot": true, "gce_technology": "sev", "boot_firmware_version": "GCE Virtual Firmware v1", "ak_trust": "enrolled", "signature_scheme": "rsassa-sha256", "event_log": true,
	} {
		if claims.Vendor[name] != want {
			t.Errorf("%s is %v, want %v", name, claims.Vendor[name], want)
		}
	}
	if line, _ := claims.Vendor["kernel_command_line"].(string); !strings.HasPrefix(line, "/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd boot=") {
		t.Errorf("command line %q", line)
	}
	// Without being enrolled, the key has a certificate, and nobody trusts its root.
	refuses(t, ev, tee.Input{At: tpmtest.At}, tee.CodeChain)
	in.Roots = tpmtest.NewAuthority(t, "x", nil, tpmtest.CertificateOptions{}).Input().Roots
	in.Endorsements.Collateral = nil
	refuses(t, ev, in, tee.CodeChain)
}

// TestWindows reads a dump of go-attestation from a real machine. Its quote is
// signed with SHA-1, which is refused; everything else about it is right.
func TestWindows(t *testing.T) {
	ev := vector(t, "tpm-windows-gcp/dump.json")
	if !tpm.New().Detect(ev.Data) {
		t.Error("not detected")
	}
	refuses(t, ev, input(t, ev), tee.CodeUnsupported)
	s, err := tpm.ParseStatement(ev.Data)
	if err != nil {
		t.Fatal(err)
	}
	facts, failures := tpm.CheckLog(s.EventLog, s.PCRs)
	if len(failures) > 0 || facts.SecureBoot == nil || !*facts.SecureBoot {
		t.Errorf("facts %+v, failures %v", facts, failures)
	}
}

// TestDump is the same format with SHA-256.
func TestDump(t *testing.T) {
	c := chip(t, tpm.RSASSA)
	type pcr struct {
		Index     uint32
		Digest    []byte
		DigestAlg crypto.Hash
	}
	s := quoted(c)
	var pcrs []pcr
	for i, v := range c.PCRs[eventlog.SHA256] {
		pcrs = append(pcrs, pcr{i, v, crypto.SHA256})
	}
	dump := func(version int) []byte {
		b, err := json.Marshal(map[string]any{
			"Static": map[string]any{"TPMVersion": version}, "AK": map[string]any{"Public": s.AKPublic},
			"Quote": map[string]any{"Quote": s.Quote, "Signature": s.Signature}, "Log": map[string]any{"PCRs": pcrs, "Raw": c.Log},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	claims, _ := verifies(t, tee.Evidence{Kind: tee.TPM, Data: dump(2)}, c.Input(t))
	bank, _ := claims.Vendor["pcrs"].(map[string]any)["sha256"].(map[string]any)
	if claims.Vendor["secure_boot"] != true || len(bank) != 10 {
		t.Errorf("claims %+v: want the ten quoted registers and no others", claims)
	}
	refuses(t, tee.Evidence{Kind: tee.TPM, Data: dump(1)}, c.Input(t), tee.CodeUnsupported)
	pcrs = append(pcrs, pcrs[0])
	refuses(t, tee.Evidence{Kind: tee.TPM, Data: dump(2)}, c.Input(t), tee.CodeParse)
	pcrs = []pcr{{0, make([]byte, 32), crypto.MD5}}
	refuses(t, tee.Evidence{Kind: tee.TPM, Data: dump(2)}, c.Input(t), tee.CodeParse)
}

// TestVectorsAreComplete fails when a case was added that no test names.
func TestVectorsAreComplete(t *testing.T) {
	tested := []string{"tpm-eventlog-snp-ubuntu" /* by package eventlog */, "tpm-gce-cos85", "tpm-windows-gcp"}
	dirs, _ := filepath.Glob(filepath.Join(vectorsDir, "tpm-*"))
	if len(dirs) == 0 {
		t.Skip("no vectors: this test needs ../shared/vectors/attest beside the repository")
	}
	for _, d := range dirs {
		if id := filepath.Base(d); !slices.Contains(tested, id) {
			t.Errorf("%s is not tested", id)
		}
	}
}

// TestFlipsOfGCE changes bytes of real evidence in go-tpm-tools' format, which has
// parts that nothing signs: other quotes, the instance's name, data of events. What
// still verifies must claim the same, or less where the log was spoilt.
func TestFlipsOfGCE(t *testing.T) {
	good := vector(t, "tpm-gce-cos85/attestation.pb")
	in := input(t, good)
	want, _ := verifies(t, good, in)
	ev := tee.Evidence{Kind: tee.TPM, Data: slices.Clone(good.Data)}
	for at := 0; at < len(good.Data); at += 5 {
		flip := byte(1 << (at % 8))
		ev.Data[at] ^= flip
		got, _, err := tpm.New().Verify(ev, in)
		ev.Data[at] ^= flip
		if err != nil {
			continue
		}
		if !got.Measurement.Equal(want.Measurement) || len(got.ReportData) > 0 || got.Platform != want.Platform || got.Debug {
			t.Fatalf("byte %#x: claims %+v", at, got)
		}
		for name, v := range got.Vendor {
			if w, ok := want.Vendor[name]; name != "event_log" && (!ok || !reflect.DeepEqual(v, w)) {
				t.Fatalf("byte %#x makes %s %v, and it is %v", at, name, v, w)
			}
		}
	}
}
