package azure_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/google/go-cmp/cmp"
)

// vectorsDir holds real evidence. It is beside the repository, not in it.
const vectorsDir = "../../../shared/vectors/attest"

// vector reads a file of a case, or skips.
func vector(tb testing.TB, id, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, id, name))
	if err != nil {
		tb.Skipf("no vectors: %v; this test needs ../shared/vectors/attest beside the repository", err)
	}
	return b
}

// at is the time of a case.
func at(tb testing.TB, id string) tee.Input {
	tb.Helper()
	var c struct{ At *time.Time }
	if err := json.Unmarshal(vector(tb, id, "case.json"), &c); err != nil {
		tb.Fatal(err)
	}
	if c.At == nil { // the verdict does not depend on it
		return tee.Input{At: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	return tee.Input{At: *c.At}
}

// certificates are those of a PEM file.
func certificates(b []byte) [][]byte {
	var out [][]byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		out = append(out, block.Bytes)
	}
	return out
}

func TestSNPEvidence(t *testing.T) {
	const id = "az-snp-evidence-v0"
	v := azure.NewSNP(snp.New())
	ev := tee.Evidence{Kind: tee.AzureSNP, Data: vector(t, id, "evidence.json")}
	if !v.Detect(ev.Data) || azure.NewTDX(&fakeTDX{}).Detect(ev.Data) {
		t.Error("not detected as what it is")
	}
	claims, findings, err := v.Verify(ev, at(t, id))
	if err != nil {
		t.Fatal(err)
	}
	if claims.TEE != tee.AzureSNP || claims.Debug || claims.Simulated || len(claims.Measurement) != 48 || string(claims.ReportData) != "challenge" ||
		claims.InstanceID != "26F8BC30-774E-4290-8E7A-535F3B672AEE" || len(claims.Platform) != 128 || claims.TCB != tee.TCBUnknown {
		t.Errorf("claims %+v", claims)
	}
	want := map[string]any{"console_enabled": true, "secure_boot": true, "tpm_enabled": true, "vm_id": claims.InstanceID}
	if diff := cmp.Diff(want, claims.Vendor["vm_configuration"]); diff != "" {
		t.Error(diff)
	}
	hardware, _ := claims.Vendor["hardware"].(map[string]any)
	bank, _ := claims.Vendor["pcrs"].(map[string]any)["sha256"].(map[string]any)
	if hardware["product"] != "Milan" || len(bank) != 24 || len(findings) != 1 || findings[0].Code != tee.CodeCollateralMissing {
		t.Errorf("hardware %v, %d PCRs, findings %v", hardware, len(bank), findings)
	}
	// The same in the compact form.
	e, err := azure.ParseEnvelope(tee.AzureSNP, ev.Data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.HCLReport, vector(t, id, "hcl-report.bin")) {
		t.Error("another paravisor's report than beside it")
	}
	compact, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := v.Verify(tee.Evidence{Kind: tee.AzureSNP, Data: compact}, at(t, id))
	if diff := cmp.Diff(claims, again); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// The paravisor's report alone, with the VCEK: the quote is missing.
	alone := tee.Evidence{Kind: tee.AzureSNP, Data: e.HCLReport, Certificates: e.VCEK}
	claims, findings, err = v.Verify(alone, at(t, id))
	wantCodes(t, claims, findings, err, tee.CodeBinding)
}

// TestTDXEvidence has the hardware's part checked by a fake.
func TestTDXEvidence(t *testing.T) {
	const id = "az-tdx-evidence-v0"
	hardware := &fakeTDX{}
	v := azure.NewTDX(hardware)
	ev := tee.Evidence{Kind: tee.AzureTDX, Data: vector(t, id, "evidence.json")}
	if !v.Detect(ev.Data) || azure.NewSNP(snp.New()).Detect(ev.Data) {
		t.Error("not detected as what it is")
	}
	in := at(t, id)
	claims, findings, err := v.Verify(ev, in)
	if err != nil {
		t.Fatal(err)
	}
	if claims.TEE != tee.AzureTDX || string(claims.ReportData) != "challenge" || claims.Platform != "ppid" || claims.TCB != tee.TCBUpToDate || claims.InstanceID == "" || len(findings) != 1 {
		t.Errorf("claims %+v, findings %v", claims, findings)
	}
	if hardware.got.Kind != tee.TDX || len(hardware.got.Data) != 5006 || !hardware.input.At.Equal(in.At) {
		t.Errorf("the verifier of TDX got %s with %d bytes", hardware.got.Kind, len(hardware.got.Data))
	}
}

// TestReports has reports of paravisors without a quote, or with one that is not
// theirs.
func TestReports(t *testing.T) {
	v := azure.NewSNP(snp.New())
	t.Run("az-snp-hcl-2023", func(t *testing.T) {
		const id = "az-snp-hcl-2023"
		data := vector(t, id, "hcl-report.bin")
		if !v.Detect(data) {
			t.Error("not detected")
		}
		ev := tee.Evidence{Kind: tee.AzureSNP, Data: data, Certificates: certificates(vector(t, id, "certs.pem"))}
		claims, findings, err := v.Verify(ev, at(t, id))
		// The VCEK is of another chip, and there is no quote.
		wantCodes(t, claims, findings, err, tee.CodePlatform, tee.CodeSignature, tee.CodeBinding)
		reportDataFits(t, tee.AzureSNP, data, 0x50)
	})
	t.Run("az-snp-hcl-trustee", func(t *testing.T) {
		const id = "az-snp-hcl-trustee"
		report, chain := vector(t, id, "hcl-report.bin"), certificates(vector(t, id, "vcek-chain.pem"))
		claims, findings, err := v.Verify(tee.Evidence{Kind: tee.AzureSNP, Data: report, Certificates: chain}, at(t, id))
		wantCodes(t, claims, findings, err, tee.CodeBinding)
		// With the quote beside it, which another key signed.
		e := &azure.Envelope{HCLReport: report, VCEK: chain, Message: vector(t, id, "tpm-quote.msg"), Signature: vector(t, id, "tpm-quote.sig")}
		for range 24 {
			e.PCRs = append(e.PCRs, make([]byte, 32))
		}
		data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		claims, findings, err = v.Verify(tee.Evidence{Kind: tee.AzureSNP, Data: data}, at(t, id))
		wantCodes(t, claims, findings, err, tee.CodeSignature, tee.CodeBinding)
		reportDataFits(t, tee.AzureSNP, report, 0x50)
	})
	t.Run("az-tdx-hcl", func(t *testing.T) {
		const id = "az-tdx-hcl"
		data := vector(t, id, "hcl-report.bin")
		v := azure.NewTDX(&fakeTDX{})
		if !v.Detect(data) || azure.NewSNP(snp.New()).Detect(data) {
			t.Error("not detected as what it is")
		}
		claims, findings, err := v.Verify(tee.Evidence{Kind: tee.AzureTDX, Data: data}, at(t, id))
		wantCodes(t, claims, findings, err, tee.CodeSignature, tee.CodeBinding)
		reportDataFits(t, tee.AzureTDX, data, 128)
	})
}

// reportDataFits checks the case's own statement: the runtime data's digest is in
// the hardware's report.
func reportDataFits(t *testing.T, kind tee.Kind, hcl []byte, off int) {
	t.Helper()
	r, err := azure.ParseReport(kind, hcl)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.ReportData(); !bytes.Equal(r.Hardware[off:][:64], want[:]) {
		t.Errorf("report data %s, want %s", hex.EncodeToString(r.Hardware[off:][:64]), hex.EncodeToString(want[:]))
	}
}

// TestVectorsAreComplete fails when a case was added that no test names.
func TestVectorsAreComplete(t *testing.T) {
	tested := []string{"az-snp-evidence-v0", "az-snp-hcl-2023", "az-snp-hcl-trustee", "az-tdx-evidence-v0", "az-tdx-hcl"}
	dirs, _ := filepath.Glob(filepath.Join(vectorsDir, "az-*"))
	if len(dirs) == 0 {
		t.Skip("no vectors: this test needs ../shared/vectors/attest beside the repository")
	}
	for _, d := range dirs {
		if id := filepath.Base(d); !slices.Contains(tested, id) {
			t.Errorf("%s is not tested", id)
		}
	}
}
