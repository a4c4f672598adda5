package azure_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

func FuzzParse(f *testing.F) {
	m := newMachine(f)
	f.Add(m.make(f).HCLReport)
	f.Add(m.evidence(f).Data)
	if b, err := os.ReadFile("testdata/snp-evidence.json"); err == nil {
		f.Add(b)
	}
	f.Add([]byte(`{"report":[1, 2,255],"quote":{"message":"00","signature":"_-8","pcrs":["AA=="]},"vcek":"-----BEGIN CERTIFICATE-----"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := azure.ParseReport(tee.AzureSNP, b); err == nil {
			if len(r.Hardware) != azure.HardwareReportSize || !bytes.Contains(b, r.RuntimeData) || len(r.RuntimeData) == 0 {
				t.Fatalf("report %+v", r)
			}
		}
		e, err := azure.ParseEnvelope(tee.AzureSNP, b)
		if err != nil {
			if e != nil || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("envelope %v, error %v", e, err)
			}
			return
		}
		if _, err := e.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	m := newMachine(f)
	e := m.make(f)
	f.Add(m.evidence(f).Data, m.tpm.Log)
	f.Add(e.HCLReport, []byte(nil))
	v := azure.NewSNP(snp.New())
	measurement := m.key.Report().Measurement
	f.Fuzz(func(t *testing.T, data, log []byte) {
		claims, _, err := v.Verify(tee.Evidence{Kind: tee.AzureSNP, Data: data, EventLog: log}, tee.Input{At: snptest.At, Roots: m.manufacturer.Roots()})
		if err != nil {
			if claims.TEE != "" || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("claims %v, error %v", claims, err)
			}
			return
		}
		// The keys are ours, so what verifies is what this machine said.
		if !bytes.Equal(claims.Measurement, measurement[:]) || string(claims.ReportData) != "challenge" || claims.InstanceID != "A-B" {
			t.Fatalf("claims %+v", claims)
		}
	})
}
