package tpmtest_test

import (
	"testing"

	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestTPM is how other packages use this one.
func TestTPM(t *testing.T) {
	chip := tpmtest.New(t, tpm.ECDSA)
	reportData := [64]byte{1, 2, 3}
	ev, err := chip.Evidence(t.Context(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := tpm.New().Verify(ev, chip.Input(t))
	if err != nil || [64]byte(claims.ReportData) != reportData || claims.Vendor["secure_boot"] != true {
		t.Fatalf("claims %+v, error %v", claims, err)
	}
	if _, _, err := tpm.New().Verify(ev, tpmtest.New(t, tpm.ECDSA).Input(t)); err == nil {
		t.Error("verified with another TPM's key enrolled")
	}
}
