package nitrotest_test

import (
	"testing"

	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/cloister-cc/cloister/tee/nitro/nitrotest"
)

// TestEnclave is how other packages use this one.
func TestEnclave(t *testing.T) {
	aws := nitrotest.New(t)
	attester := nitro.NewAttester(aws.Enclave(t).NSM(nil))
	reportData := [64]byte{1, 2, 3}
	ev, err := attester.Evidence(t.Context(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := nitro.New().Verify(ev, aws.Input())
	if err != nil || [64]byte(claims.ReportData) != reportData {
		t.Fatalf("claims %+v, error %v", claims, err)
	}
	if _, _, err := nitro.New().Verify(ev, nitrotest.New(t).Input()); err == nil {
		t.Error("verified with another AWS's root")
	}
}
