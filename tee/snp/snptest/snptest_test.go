package snptest_test

import (
	"testing"

	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// TestGuest is how other packages use this one.
func TestGuest(t *testing.T) {
	m := snptest.New(t, snp.Genoa)
	key := m.VCEK(t, snptest.KeyOptions{})
	guest := &snptest.Guest{Key: key, Template: key.Report()}
	reportData := [64]byte{1, 2, 3}
	ev, err := guest.Evidence(t.Context(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := snp.New().Verify(ev, m.Input())
	if err != nil || [64]byte(claims.ReportData) != reportData || guest.Kind() != claims.TEE {
		t.Fatalf("claims %+v, error %v", claims, err)
	}
	if _, _, err := snp.New().Verify(ev, snptest.New(t, snp.Genoa).Input()); err == nil {
		t.Error("verified with another manufacturer's roots")
	}
}
