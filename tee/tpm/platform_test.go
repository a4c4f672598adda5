package tpm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestPlatformKey: a real TPM makes the same key after a restart, and another one
// once a register has been extended, for another label, and on another TPM.
func TestPlatformKey(t *testing.T) {
	dir := t.TempDir()
	pcrs := []uint32{0, 9, 15, 9}
	start := func(dir string) *tpm.Attester {
		conn, wait := tpmtest.Software(t, dir)
		a, err := tpm.NewAttester(conn, tpm.Options{PCRs: pcrs})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close(); wait() })
		return a
	}
	keyOf := func(a *tpm.Attester, label string) []byte {
		t.Helper()
		k, err := a.PlatformKey(t.Context(), pcrs, label)
		if err != nil || len(k) != 32 {
			t.Fatalf("%d bytes, %v", len(k), err)
		}
		return k
	}
	conn, wait := tpmtest.Software(t, dir)
	a, err := tpm.NewAttester(conn, tpm.Options{PCRs: pcrs})
	if err != nil {
		t.Fatal(err)
	}
	first := keyOf(a, "sealing")
	for range 10 { // keys and sessions must not pile up in the TPM
		if !bytes.Equal(keyOf(a, "sealing"), first) {
			t.Fatal("the key changes")
		}
	}
	if bytes.Equal(keyOf(a, "other"), first) {
		t.Error("another label gives the same key")
	}
	digest := eventlog.SHA256.Sum([]byte("event"))
	if err := a.Extend(t.Context(), 15, map[eventlog.Algorithm][]byte{eventlog.SHA256: digest}); err != nil {
		t.Fatal(err)
	}
	after := keyOf(a, "sealing")
	if bytes.Equal(after, first) {
		t.Error("an extended register gives the same key")
	}
	// The register that is quoted is the extended one.
	ev, err := a.Evidence(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tpm.ParseStatement(ev.Data)
	if err != nil || !bytes.Equal(s.PCRs[eventlog.SHA256][15], eventlog.SHA256.Sum(make([]byte, 32), digest)) {
		t.Errorf("PCR 15 is %x, %v", s.PCRs[eventlog.SHA256][15], err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wait()
	if got := keyOf(start(dir), "sealing"); !bytes.Equal(got, first) {
		t.Error("the key is another after a restart")
	}
	if got := keyOf(start(t.TempDir()), "sealing"); bytes.Equal(got, first) {
		t.Error("another TPM makes the same key")
	}
}

// TestPlatformRefuses what no TPM is asked for.
func TestPlatformRefuses(t *testing.T) {
	conn, _ := tpmtest.Software(t, t.TempDir())
	a, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
			t.Errorf("%s: %v", what, err)
		}
	}
	sha256 := map[eventlog.Algorithm][]byte{eventlog.SHA256: make([]byte, 32)}
	for what, err := range map[string]error{
		"no digests": a.Extend(t.Context(), 15, nil), "short": a.Extend(t.Context(), 15, map[eventlog.Algorithm][]byte{eventlog.SHA256: {1}}),
		"unknown bank": a.Extend(t.Context(), 15, map[eventlog.Algorithm][]byte{0x7777: make([]byte, 32)}), "PCR": a.Extend(t.Context(), 24, sha256),
	} {
		refused(what, err)
	}
	_, err = a.PlatformKey(t.Context(), nil, "x")
	refused("no PCRs", err)
	_, err = a.PlatformKey(t.Context(), []uint32{0}, "")
	refused("no label", err)
}
