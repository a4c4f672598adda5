//go:build unix

package sgx_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
)

// gramine is a directory of pipes that answer as Gramine's files do: the quote
// is over what was written before.
func gramine(t *testing.T, kind string, quote func(reportData []byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"user_report_data", "quote"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "attestation_type"), []byte(kind), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		data, err := os.ReadFile(filepath.Join(dir, "user_report_data"))
		if err == nil {
			_ = os.WriteFile(filepath.Join(dir, "quote"), quote(data), 0o600)
		}
	}()
	return dir
}

// TestAttester gets a quote from Gramine's files and verifies it.
func TestAttester(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	dir := gramine(t, "dcap\n", func(reportData []byte) []byte {
		body := dcaptest.EnclaveBody()
		copy(body[320:], reportData)
		return p.Quote(t, dcaptest.QuoteOptions{Body: body})
	})
	a := &sgx.Attester{Dir: dir}
	ev, err := a.Evidence(t.Context(), [64]byte{7})
	if err != nil || ev.Kind != tee.SGX || a.Kind() != tee.SGX {
		t.Fatal(ev.Kind, err)
	}
	claims, _, err := sgx.New().Verify(ev, intel.Input(t, dcaptest.CollateralOptions{}))
	if err != nil || claims.ReportData[0] != 7 {
		t.Errorf("%v, %v", claims, err)
	}
}

func TestAttesterUnavailable(t *testing.T) {
	empty := func([]byte) []byte { return nil }
	long := func([]byte) []byte { return make([]byte, tee.MaxEvidence+1) }
	for name, a := range map[string]*sgx.Attester{
		"no Gramine": {Dir: filepath.Join(t.TempDir(), "none")}, "EPID": {Dir: gramine(t, "epid", empty)}, "none": {Dir: gramine(t, "none", empty)},
		"empty quote": {Dir: gramine(t, "dcap", empty)}, "long quote": {Dir: gramine(t, "dcap", long)},
	} {
		_, err := a.Evidence(t.Context(), [64]byte{})
		if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(sgx.GramineDir); err != nil {
		_, err := (&sgx.Attester{}).Evidence(t.Context(), [64]byte{})
		if e, ok := errors.AsType[*tee.Error](err); !ok || e.Hint == "" {
			t.Errorf("on this machine: %v", err)
		}
	}
}
