package azure_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestRefusesLayers breaks one layer or the glue between two.
func TestRefusesLayers(t *testing.T) {
	otherAK := tpmtest.New(t, tpm.RSASSA)
	put := func(off int, v uint32) func(*machine) {
		return func(m *machine) {
			m.hcl = func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return b }
		}
	}
	settings := make(map[string]any)
	for i := range 65 {
		settings[strings.Repeat("x", i+1)] = true
	}
	for name, c := range map[string]struct {
		change func(*machine)
		codes  []tee.Code
	}{
		"another key of the vTPM": {func(m *machine) { m.tpm = otherAK }, []tee.Code{tee.CodeSignature}},
		"runtime data changed": {func(m *machine) {
			m.hcl = func(b []byte) []byte { return bytes.Replace(b, []byte(`"A-B"`), []byte(`"A-C"`), 1) }
		}, []tee.Code{tee.CodeBinding}},
		"other report data":         {func(m *machine) { m.change = func(r *snp.Report) { r.ReportData[0] ^= 1 } }, []tee.Code{tee.CodeBinding}},
		"report data in both parts": {func(m *machine) { m.change = func(r *snp.Report) { r.ReportData[63] = 1 } }, []tee.Code{tee.CodeBinding}},
		"hardware report changed":   {func(m *machine) { m.hcl = func(b []byte) []byte { b[32+0x90] ^= 1; return b } }, []tee.Code{tee.CodeSignature}},
		"hardware and runtime data": {func(m *machine) { m.hcl = func(b []byte) []byte { b[32+0x50] ^= 1; return b } }, []tee.Code{tee.CodeSignature, tee.CodeBinding}},
		"asked by the guest":        {func(m *machine) { m.change = func(r *snp.Report) { r.VMPL = 2 } }, []tee.Code{tee.CodeUnsupported}},
		"VCEK of another chip":      {func(m *machine) { m.key = wrongKey(t, m) }, []tee.Code{tee.CodePlatform, tee.CodeSignature}},
		"VCEK is none":              {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.VCEK = [][]byte{{1, 2, 3}} } }, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		"signature of zeroes":       {func(m *machine) { m.envelope = func(e *azure.Envelope) { clear(e.Signature) } }, []tee.Code{tee.CodeSignature}},
		"short signature":           {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.Signature = e.Signature[1:] } }, []tee.Code{tee.CodeSignature}},
		"PCR changed":               {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.PCRs[7] = make([]byte, 32) } }, []tee.Code{tee.CodeBinding}},
		"PCR short":                 {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.PCRs[7] = make([]byte, 20) } }, []tee.Code{tee.CodeBinding}},
		"PCRs missing":              {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.PCRs = e.PCRs[:5] } }, []tee.Code{tee.CodeBinding}},
		"too many PCRs":             {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.PCRs = append(e.PCRs, make([]byte, 32)) } }, []tee.Code{tee.CodeParse}},
		"message is no quote":       {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.Message[5] = 0x17 } }, []tee.Code{tee.CodeParse, tee.CodeSignature}},
		"no message":                {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.Message = nil } }, []tee.Code{tee.CodeParse, tee.CodeSignature}},
		"no report":                 {func(m *machine) { m.envelope = func(e *azure.Envelope) { e.HCLReport = nil } }, []tee.Code{tee.CodeParse}},
		"short report":              {func(m *machine) { m.hcl = func(b []byte) []byte { return b[:1235] } }, []tee.Code{tee.CodeParse}},
		"long report":               {func(m *machine) { m.hcl = func(b []byte) []byte { return append(b, make([]byte, 4<<10)...) } }, []tee.Code{tee.CodeParse}},
		"no magic":                  {put(0, 0), []tee.Code{tee.CodeParse}},
		"version 3":                 {put(4, 3), []tee.Code{tee.CodeUnsupported}},
		"runtime data version 2":    {put(1220, 2), []tee.Code{tee.CodeUnsupported}},
		"report type 3":             {put(1224, 3), []tee.Code{tee.CodeUnsupported}},
		"report type of TDX":        {put(1224, 4), []tee.Code{tee.CodeProduct}},
		"SHA-512":                   {put(1228, 3), []tee.Code{tee.CodeUnsupported}},
		"size zero":                 {put(1232, 0), []tee.Code{tee.CodeParse}},
		"size overflows":            {put(1232, 0xfffffff0), []tee.Code{tee.CodeParse}},
		"bytes after":               {func(m *machine) { m.hcl = func(b []byte) []byte { b[len(b)-1] = 1; return b } }, []tee.Code{tee.CodeParse}},
		"no keys":                   {func(m *machine) { delete(m.runtime, "keys") }, []tee.Code{tee.CodeParse}},
		"key of another name":       {func(m *machine) { m.runtime["keys"] = []any{jwk(t, "HCLEkPub", m.tpm.Key)} }, []tee.Code{tee.CodeParse}},
		"key twice":                 {func(m *machine) { m.runtime["keys"] = slices.Repeat(m.runtime["keys"].([]any), 2) }, []tee.Code{tee.CodeParse}},
		"many keys":                 {func(m *machine) { m.runtime["keys"] = slices.Repeat([]any{map[string]any{}}, 17) }, []tee.Code{tee.CodeParse}},
		"many settings":             {func(m *machine) { m.runtime["vm-configuration"] = settings; m.runtime["user-data"] = "" }, []tee.Code{tee.CodeParse}},
		"short key":                 {func(m *machine) { m.runtime["keys"].([]any)[0].(map[string]any)["n"] = "AQAB" }, []tee.Code{tee.CodeParse}},
		"key of another kind":       {func(m *machine) { m.runtime["keys"].([]any)[0].(map[string]any)["kty"] = "EC" }, []tee.Code{tee.CodeParse}},
		"exponent 2":                {func(m *machine) { m.runtime["keys"].([]any)[0].(map[string]any)["e"] = "Ag" }, []tee.Code{tee.CodeParse}},
		"key is no base64":          {func(m *machine) { m.runtime["keys"].([]any)[0].(map[string]any)["n"] = "*" }, []tee.Code{tee.CodeParse}},
		"everything": {func(m *machine) {
			m.tpm = otherAK
			m.change = func(r *snp.Report) { r.ReportData[0] ^= 1; r.ChipID[0] ^= 1 }
			m.envelope = func(e *azure.Envelope) { e.PCRs[0] = make([]byte, 32) }
		}, []tee.Code{tee.CodeSignature, tee.CodeBinding, tee.CodePlatform}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c.change(m)
			refuses(t, m.evidence(t), m.input(), c.codes...)
		})
	}
}

// wrongKey is the machine's key with the certificate of another chip.
func wrongKey(t *testing.T, m *machine) *snptest.Key {
	t.Helper()
	k := *m.key
	k.Certificate = m.manufacturer.VCEK(t, snptest.KeyOptions{}).Certificate
	return &k
}

func TestRefusesEnvelopes(t *testing.T) {
	m := newMachine(t)
	good := m.evidence(t).Data
	for name, b := range map[string][]byte{
		"empty": nil, "truncated": good[:len(good)-1], "bytes after": append(bytes.Clone(good), '{'), "null": []byte("null"), "list": []byte("[]"),
		"too long": append(bytes.Clone(good), bytes.Repeat([]byte{' '}, tee.MaxEvidence)...), "other name": append([]byte(`{"x":1,`), good[1:]...),
		"two reports": append([]byte(`{"report":[1],`), good[1:]...), "two quotes": append([]byte(`{"quote":{"message":[]},`), good[1:]...),
		"not bytes":     bytes.Replace(good, []byte(`"hcl_report":"`), []byte(`"hcl_report":[256],"x":"`), 1),
		"array of text": []byte(`{"hcl_report":["a"],"tpm_quote":{}}`), "array of big": []byte(`{"hcl_report":[256],"tpm_quote":{}}`), "negative": []byte(`{"hcl_report":[-1],"tpm_quote":{}}`),
		"number": []byte(`{"hcl_report":7,"tpm_quote":{}}`), "neither hex nor base64": []byte(`{"hcl_report":"***","tpm_quote":{}}`), "nested": []byte(`{"hcl_report":[[1]],"tpm_quote":{}}`),
		"VCEK is no PEM": bytes.Replace(good, []byte(`"vcek":"`), []byte(`"vcek":"-----BEGIN X`), 1), "VCEK is no base64": bytes.Replace(good, []byte(`"vcek":"`), []byte(`"vcek":"*`), 1),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, tee.Evidence{Kind: tee.AzureSNP, Data: b}, m.input(), tee.CodeParse) })
	}
	for n := range good { // every truncation
		if _, err := azure.ParseEnvelope(tee.AzureSNP, good[:n]); err == nil {
			t.Fatalf("read %d bytes", n)
		}
	}
	report := m.make(t).HCLReport
	for n := range report[:1236+20] {
		if _, err := azure.ParseReport(tee.AzureSNP, report[:n]); err == nil {
			t.Fatalf("read a report of %d bytes", n)
		}
	}
	for _, kind := range []tee.Kind{"", tee.SNP, tee.AzureTDX} {
		refuses(t, tee.Evidence{Kind: kind, Data: good}, m.input(), tee.CodeUnknownFormat)
	}
	refuses(t, m.evidence(t), tee.Input{Roots: m.manufacturer.Roots()}, tee.CodeTime)
	ev := m.evidence(t)
	ev.EventLog = []byte("log")
	refuses(t, ev, m.input(), tee.CodeParse)
	m.tpm.Boot(false)
	ev.EventLog = m.tpm.Log
	refuses(t, ev, m.input(), tee.CodeEventLog)
}

func TestRefusesWithoutHardware(t *testing.T) {
	m := newMachine(t)
	for name, v := range map[string]*azure.Verifier{
		"zero": {}, "nil": azure.NewSNP(nil), "other hardware": azure.NewSNP(&fakeTDX{}), "the other way": azure.NewTDX(snp.New()),
	} {
		t.Run(name, func(t *testing.T) {
			claims, findings, err := v.Verify(m.evidence(t), m.input())
			wantCodes(t, claims, findings, err, tee.CodeUnsupported)
		})
	}
}

// TestTDX composes evidence of TDX around a fake of its verifier.
func TestTDX(t *testing.T) {
	m := newMachine(t)
	quote := make([]byte, 48+584)
	make4 := func(change func(*azure.Envelope)) tee.Evidence {
		e := m.make(t)
		r, err := azure.ParseReport(tee.AzureSNP, e.HCLReport)
		if err != nil {
			t.Fatal(err)
		}
		reportData := r.ReportData()
		copy(quote[48+520:], reportData[:])
		e.HCLReport, e.VCEK, e.TDQuote = hclReport(4, nil, r.RuntimeData), nil, bytes.Clone(quote)
		if change != nil {
			change(e)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return tee.Evidence{Kind: tee.AzureTDX, Data: b}
	}
	claims, _, err := azure.NewTDX(&fakeTDX{debug: true}).Verify(make4(nil), m.input())
	if err != nil || !claims.Debug || claims.TEE != tee.AzureTDX {
		t.Errorf("claims %+v, error %v", claims, err)
	}
	refused := &fakeTDX{err: tee.Refuse(tee.TDX, tee.CodeFMSPC, "fmspc", "", "", "")}
	for name, c := range map[string]struct {
		v      *azure.Verifier
		change func(*azure.Envelope)
		codes  []tee.Code
	}{
		"hardware refuses":     {azure.NewTDX(refused), nil, []tee.Code{tee.CodeFMSPC}},
		"hardware fails":       {azure.NewTDX(&fakeTDX{err: errors.New("x")}), nil, []tee.Code{tee.CodeParse}},
		"no quote of the TD":   {azure.NewTDX(&fakeTDX{}), func(e *azure.Envelope) { e.TDQuote = nil }, []tee.Code{tee.CodeSignature}},
		"other report data":    {azure.NewTDX(&fakeTDX{}), func(e *azure.Envelope) { e.TDQuote[48+520] ^= 1 }, []tee.Code{tee.CodeBinding}},
		"more report data":     {azure.NewTDX(&fakeTDX{}), func(e *azure.Envelope) { e.TDQuote[48+520+63] = 1 }, []tee.Code{tee.CodeBinding}},
		"paravisor on SEV-SNP": {azure.NewTDX(&fakeTDX{}), func(e *azure.Envelope) { e.HCLReport = m.make(t).HCLReport }, []tee.Code{tee.CodeProduct}},
		"both":                 {azure.NewTDX(refused), func(e *azure.Envelope) { clear(e.Signature) }, []tee.Code{tee.CodeFMSPC, tee.CodeSignature}},
	} {
		t.Run(name, func(t *testing.T) {
			claims, findings, err := c.v.Verify(make4(c.change), m.input())
			e := wantCodes(t, claims, findings, err, c.codes...)
			if e.Kind != tee.AzureTDX {
				t.Errorf("kind %s", e.Kind)
			}
			if e.Failures[0].Code == tee.CodeFMSPC && e.Failures[0].Claim != "hardware: fmspc" {
				t.Errorf("claim %q does not say that it is the hardware's", e.Failures[0].Claim)
			}
		})
	}
}
