package tpm_test

import (
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestCounters in a real TPM: they go up by one, survive a restart, belong to an
// owner, and show when somebody else has written them.
func TestCounters(t *testing.T) {
	dir := t.TempDir()
	conn, wait := tpmtest.Software(t, dir)
	a, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	c := tpm.NewCounters(a, key, []byte("owner"))
	stands := func(c *tpm.Counters, want uint64, digest byte) {
		t.Helper()
		if v, d, err := c.ReadCounter(t.Context(), "state"); err != nil || v != want || d != [32]byte{digest} {
			t.Fatalf("it stands at %d with %x, %v; want %d with %x", v, d[:1], err, want, digest)
		}
	}
	stands(c, 0, 0)
	for i := range uint64(3) {
		if err := c.AdvanceCounter(t.Context(), "state", i, [32]byte{byte(i + 1)}); err != nil {
			t.Fatal(err)
		}
		stands(c, i+1, byte(i+1))
	}
	for _, from := range []uint64{0, 2, 4, 1<<64 - 1} {
		if err := c.AdvanceCounter(t.Context(), "state", from, [32]byte{}); !errors.Is(err, &tee.Error{Code: tee.CodeCounter}) {
			t.Errorf("from %d: %v", from, err)
		}
	}
	stands(c, 3, 3)
	stands(tpm.NewCounters(a, key, []byte("another owner")), 0, 0)
	if _, _, err := tpm.NewCounters(a, []byte("another key of 32 bytes or more!"), []byte("owner")).ReadCounter(t.Context(), "state"); !errors.Is(err, &tee.Error{Code: tee.CodeRollback}) {
		t.Errorf("another key: %v", err)
	}
	for _, name := range []string{"", string(make([]byte, 129))} {
		if _, _, err := c.ReadCounter(t.Context(), name); !errors.Is(err, &tee.Error{Code: tee.CodeParse}) {
			t.Errorf("name of %d bytes: %v", len(name), err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wait()
	conn, _ = tpmtest.Software(t, dir)
	b, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	stands(tpm.NewCounters(b, key, []byte("owner")), 3, 3)
}
