package azure_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/json"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
)

// TestBuildReport: a report that is put together again verifies as the original.
func TestBuildReport(t *testing.T) {
	m := newMachine(t)
	e := m.make(t)
	r, err := azure.ParseReport(tee.AzureSNP, e.HCLReport)
	if err != nil {
		t.Fatal(err)
	}
	m.envelope = func(e *azure.Envelope) {
		e.HCLReport, err = azure.BuildReport(tee.AzureSNP, r.Hardware, r.RuntimeData)
		if err != nil {
			t.Fatal(err)
		}
	}
	verifier := azure.NewSNP(snp.New())
	if _, _, err := verifier.Verify(m.evidence(t), m.input()); err != nil {
		t.Error(err)
	}
	b, err := azure.BuildReport(tee.AzureTDX, nil, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := azure.ParseReport(tee.AzureTDX, b); err != nil || !r.TDX || string(r.RuntimeData) != "{}" {
		t.Errorf("%+v, %v", r, err)
	}
	for name, c := range map[string]struct{ hardware, data []byte }{
		"no report":      {nil, []byte("{}")},
		"a short report": {make([]byte, azure.HardwareReportSize-1), []byte("{}")},
		"no data":        {make([]byte, azure.HardwareReportSize), nil},
		"too much data":  {make([]byte, azure.HardwareReportSize), bytes.Repeat([]byte{' '}, 4<<10)},
	} {
		if _, err := azure.BuildReport(tee.AzureSNP, c.hardware, c.data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAttestationKey(t *testing.T) {
	m := newMachine(t)
	data, err := json.Marshal(m.runtime)
	if err != nil {
		t.Fatal(err)
	}
	key, err := azure.AttestationKey(tee.AzureSNP, data)
	if err != nil || !key.Equal(m.tpm.Key.Public().(*rsa.PublicKey)) {
		t.Error(key, err)
	}
	if _, err := azure.AttestationKey(tee.AzureSNP, []byte("{}")); err == nil {
		t.Error("a key of nothing")
	}
}
