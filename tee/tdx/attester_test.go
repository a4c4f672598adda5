package tdx_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/tdx"
	"github.com/cloister-cc/cloister/tee/tsm"
	"github.com/cloister-cc/cloister/tee/tsm/tsmtest"
)

// TestAttester gets a quote from a kernel and verifies it.
func TestAttester(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	kernel := &tsmtest.Kernel{Provider: tsm.TDXGuest, Report: func(reportData []byte) ([]byte, error) {
		body := dcaptest.TDBody(dcap.TD10Body)
		copy(body[520:], reportData)
		return p.Quote(t, dcaptest.QuoteOptions{Type: dcap.TD10Body, Body: body}), nil
	}}
	dir := t.TempDir()
	a := tdx.Attester{TSM: tsm.Client{Files: kernel}, EventLog: filepath.Join(dir, "none")}
	ev, err := a.Evidence(t.Context(), [64]byte{7})
	if err != nil || ev.Kind != tee.TDX || a.Kind() != tee.TDX || ev.EventLog != nil {
		t.Fatal(ev.Kind, err)
	}
	claims, _, err := tdx.New().Verify(ev, intel.Input(t, dcaptest.CollateralOptions{TDX: true}))
	if err != nil || claims.ReportData[0] != 7 {
		t.Errorf("%v, %v", claims, err)
	}
	log := filepath.Join(dir, "CCEL")
	if err := os.WriteFile(log, []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.EventLog = log
	if ev, err = a.Evidence(t.Context(), [64]byte{}); err != nil || string(ev.EventLog) != "log" {
		t.Errorf("log %q, %v", ev.EventLog, err)
	}
	if err := os.Truncate(log, tee.MaxEventLog+1); err != nil {
		t.Fatal(err)
	}
	unavailable(t, a)
	a.EventLog = ""
	kernel.Provider = tsm.SEVGuest
	unavailable(t, a)
	kernel.Provider = ""
	unavailable(t, a)
}

func unavailable(t *testing.T, a tee.Attester) {
	t.Helper()
	_, err := a.Evidence(t.Context(), [64]byte{})
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable {
		t.Errorf("%v, want unavailable", err)
	}
}
