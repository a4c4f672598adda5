package azure_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestClaims(t *testing.T) {
	m := newMachine(t)
	m.change = func(r *snp.Report) { r.Policy |= 1 << 19; r.HostData[0] = 1 }
	ev := m.evidence(t)
	ev.EventLog = m.tpm.Log
	got, findings, err := azure.NewSNP(snp.New()).Verify(ev, m.input())
	if err != nil {
		t.Fatal(err)
	}
	measurement := m.key.Report().Measurement
	if got.TEE != tee.AzureSNP || !got.Debug || string(got.ReportData) != "challenge" || got.InstanceID != "A-B" || got.LaunchDigest != nil ||
		!bytes.Equal(got.Measurement, measurement[:]) || got.TCB != tee.TCBUnknown || len(findings) != 1 {
		t.Errorf("claims %+v, findings %v", got, findings)
	}
	settings := map[string]any{"secure_boot": true, "console_enabled": false, "vm_id": "A-B", "current_time": int64(1678652405)}
	if diff := cmp.Diff(settings, got.Vendor["vm_configuration"]); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]any{
		"user_data": "00ff", "clock": uint64(12345), "reset_count": uint64(3), "restart_count": uint64(1), "safe": true, "firmware_version": uint64(0x20160511),
		"event_log": true, "secure_boot": true, "kernel_command_line": "/vmlinuz quiet",
	} {
		if got.Vendor[name] != want {
			t.Errorf("%s is %v, want %v", name, got.Vendor[name], want)
		}
	}
	pcrs, _ := got.Vendor["pcrs"].(map[string]any)["sha256"].(map[string]any)
	if len(pcrs) != 10 || got.Vendor["pcr_measurement"] == "" {
		t.Errorf("pcrs %v: want the ten that are quoted", pcrs)
	}
	hardware, _ := got.Vendor["hardware"].(map[string]any)
	if hardware["product"] != "Milan" || hardware["vmpl"] != uint64(0) {
		t.Errorf("hardware %v", hardware)
	}
}

// TestCertificatesAnywhere: the VCEK may be in the envelope, beside the evidence or
// among the endorsements.
func TestCertificatesAnywhere(t *testing.T) {
	m := newMachine(t)
	m.envelope = func(e *azure.Envelope) { e.VCEK = nil }
	ev, in := m.evidence(t), m.input()
	refuses(t, ev, in, tee.CodeCollateralMissing)
	ev.Certificates = [][]byte{m.key.Certificate}
	if _, _, err := azure.NewSNP(snp.New()).Verify(ev, in); err != nil {
		t.Error(err)
	}
	in.Endorsements.Certificates, ev.Certificates = ev.Certificates, nil
	if _, _, err := azure.NewSNP(snp.New()).Verify(ev, in); err != nil {
		t.Error(err)
	}
	m.envelope = func(e *azure.Envelope) { e.VCEK = append(e.VCEK, m.manufacturer.ASK.Certificate.Raw) } // as PEM
	if _, _, err := azure.NewSNP(snp.New()).Verify(m.evidence(t), m.input()); err != nil {
		t.Error(err)
	}
}

// TestEveryFlipIsRefused changes every byte of the parts of evidence, and of the
// hardware's report one in eight, as each costs a signature. What may change is
// listed: nothing signs the header of the paravisor's report, and nothing believes
// it.
func TestEveryFlipIsRefused(t *testing.T) {
	m := newMachine(t)
	e := m.make(t)
	v := azure.NewSNP(snp.New())
	in := m.input()
	accepted := func() bool {
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = v.Verify(tee.Evidence{Kind: tee.AzureSNP, Data: b}, in)
		return err == nil
	}
	if !accepted() {
		t.Fatal("refused")
	}
	unsigned := func(at int) bool { return at == 4 || at >= 12 && at < 32 } // version, request, status
	all := os.Getenv("CLOISTER_ALL_MUTATIONS") != ""
	flips := []byte{0x03}
	if all { // `make mutations`
		flips = []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x40, 0x80, 0xFF}
	}
	for at := range e.HCLReport {
		if !all && at >= 32 && at < 1216 && at%8 != 0 {
			continue
		}
		for _, flip := range flips {
			e.HCLReport[at] ^= flip
			if accepted() && !unsigned(at) {
				t.Fatalf("accepted a paravisor's report with another byte %#x", at)
			}
			e.HCLReport[at] ^= flip
		}
	}
	parts := [][]byte{e.Message, e.Signature}
	for i, p := range e.PCRs {
		if i < 10 { // the others are not quoted, and so no claims
			parts = append(parts, p)
		}
	}
	for i, p := range parts {
		for at := range p {
			p[at] ^= 0x40
			if accepted() {
				t.Fatalf("accepted part %d with another byte %#x", i, at)
			}
			p[at] ^= 0x40
		}
	}
}

// TestManyFlipsOfTDX does the same many times over real evidence, where a fake in
// place of the verifier of TDX makes it cheap. The TDREPORT in the paravisor's
// report is not looked at.
func TestManyFlipsOfTDX(t *testing.T) {
	ev := tee.Evidence{Kind: tee.AzureTDX, Data: vector(t, "az-tdx-evidence-v0", "evidence.json")}
	in := at(t, "az-tdx-evidence-v0")
	e, err := azure.ParseEnvelope(tee.AzureTDX, ev.Data)
	if err != nil {
		t.Fatal(err)
	}
	v := azure.NewTDX(&fakeTDX{})
	unsigned := func(at int) bool { return at == 4 || at >= 12 && at < 1216 }
	try := func(p []byte, unsigned func(int) bool) {
		for at := range p {
			if unsigned(at) {
				continue
			}
			for _, flip := range []byte{1 << (at % 8), 1 << ((at + 3) % 8), 0x55, 0xFF} {
				p[at] ^= flip
				b, err := e.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := v.Verify(tee.Evidence{Kind: tee.AzureTDX, Data: b}, in); err == nil {
					t.Fatalf("accepted evidence with another byte %#x", at)
				}
				p[at] ^= flip
			}
		}
	}
	never := func(int) bool { return false }
	try(e.HCLReport, unsigned)
	try(e.Message, never)
	try(e.Signature, never)
	for _, p := range e.PCRs {
		try(p, never)
	}
}

func TestDetect(t *testing.T) {
	m := newMachine(t)
	ev := m.evidence(t)
	e := m.make(t)
	snpV, tdxV := azure.NewSNP(snp.New()), azure.NewTDX(&fakeTDX{})
	for name, c := range map[string]struct {
		data     []byte
		snp, tdx bool
	}{
		"evidence":      {ev.Data, true, false},
		"report":        {e.HCLReport, true, false},
		"report of TDX": {hclReport(4, nil, []byte("{}")), false, true},
		"other report":  {hclReport(3, nil, []byte("{}")), false, false},
		"short report":  {e.HCLReport[:100], false, false},
		"TD envelope":   {[]byte(` {"td_quote":[],"hcl_report":[],"tpm_quote":{"message":[]}}`), false, true},
		"empty":         {nil, false, false},
		"other JSON":    {[]byte(`{"report":1}`), false, false},
		"dump of a TPM": {[]byte(`{"Static":{"TPMVersion":2},"Quote":{}}`), false, false},
	} {
		if a, b := snpV.Detect(c.data), tdxV.Detect(c.data); a != c.snp || b != c.tdx || (&azure.Verifier{}).Detect(c.data) && name != "other report" {
			t.Errorf("%s: SNP %t, TDX %t", name, a, b)
		}
	}
}

// TestEnvelopeRoundTrip writes any envelope and reads it again.
func TestEnvelopeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := func(name string) []byte { return rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, name) }
		e := &azure.Envelope{HCLReport: field("report"), Message: field("message"), Signature: field("signature")}
		for range rapid.IntRange(0, 3).Draw(t, "pcrs") {
			e.PCRs = append(e.PCRs, field("pcr"))
		}
		for range rapid.IntRange(0, 2).Draw(t, "certificates") {
			e.VCEK = append(e.VCEK, field("certificate"))
		}
		if rapid.Bool().Draw(t, "TDX") {
			e.TDQuote = field("quote")
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := azure.ParseEnvelope(tee.AzureSNP, b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestSpellings: bytes in JSON are integers, hex in either case, or base64url with
// or without padding.
func TestSpellings(t *testing.T) {
	want := &azure.Envelope{HCLReport: []byte{0xFB, 0xFF}, Message: []byte{0xFB, 0xFF}, Signature: []byte{1}, PCRs: [][]byte{{0xAB}, nil}}
	for _, text := range []string{
		`{"report":[251,255],"quote":{"message":[ 251 , 255 ],"signature":[1],"pcrs":[[171],[]]}}`,
		`{"hcl_report":"fbff","tpm_quote":{"message":"FBFF","signature":"01","pcrs":["ab",""]}}`,
		`{"version":1,"hcl_report":"-_8","tpm_quote":{"message":"-_8=","signature":"AQ==","pcrs":["qw",""]}}`,
	} {
		got, err := azure.ParseEnvelope(tee.AzureSNP, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}
}
