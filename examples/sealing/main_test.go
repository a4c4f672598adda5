//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/tee"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStore(t *testing.T) *store {
	t.Helper()
	e := enclavetest.New(t, enclavetest.Program{})
	return &store{
		enclave: e, counters: e, policy: tee.SealToMeasurement(),
		path: filepath.Join(t.TempDir(), "visits.sealed"),
	}
}

// written seals a state as save does, without moving the counter: what a crash
// between the two steps leaves behind.
func written(t *testing.T, s *store, stands, visits uint64) []byte {
	t.Helper()
	plain := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, stands), visits)
	blob, err := s.enclave.Seal(s.policy, plain, []byte(purpose))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, blob)
	return blob
}

func put(t *testing.T, s *store, blob []byte) {
	t.Helper()
	if err := os.WriteFile(s.path, blob, 0o600); err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, s *store, visits uint64) []byte {
	t.Helper()
	if err := s.save(visits); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantVisits(t *testing.T, s *store, want uint64) {
	t.Helper()
	if got, err := s.load(); err != nil || got != want {
		t.Errorf("load = %d, %v, want %d", got, err, want)
	}
}

func TestSaveAndLoad(t *testing.T) {
	s := newStore(t)
	wantVisits(t, s, 0)
	for n := range uint64(3) {
		save(t, s, n+1)
		wantVisits(t, s, n+1)
	}
}

// TestCrashBeforeTheCounterMoved: the step is finished, and only once.
func TestCrashBeforeTheCounterMoved(t *testing.T) {
	s := newStore(t)
	save(t, s, 1)
	lost := written(t, s, 2, 2)
	wantVisits(t, s, 2)
	wantVisits(t, s, 2)
	save(t, s, 3)
	put(t, s, lost)
	if _, err := s.load(); !errors.Is(err, errRollback) {
		t.Errorf("the finished state is presented again: %v, want errRollback", err)
	}
}

// TestTheHostKeepsAStateThatWasNeverCounted: of two states for one step, the one
// that the counter took is the only one from then on.
func TestTheHostKeepsAStateThatWasNeverCounted(t *testing.T) {
	s := newStore(t)
	first := save(t, s, 1)
	kept := written(t, s, 2, 1000)
	put(t, s, first) // the host stops the program, and hides what it wrote
	wantVisits(t, s, 1)
	second := save(t, s, 2)
	put(t, s, kept)
	if _, err := s.load(); !errors.Is(err, errRollback) {
		t.Errorf("a state that never was: %v, want errRollback", err)
	}
	put(t, s, second)
	wantVisits(t, s, 2)
}

func TestLoadRefuses(t *testing.T) {
	s := newStore(t)
	first := save(t, s, 1)
	save(t, s, 2)
	put(t, s, first)
	if _, err := s.load(); !errors.Is(err, errRollback) {
		t.Errorf("an older state: %v, want errRollback", err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load(); !errors.Is(err, errRollback) {
		t.Errorf("no state: %v, want errRollback", err)
	}
	for name, blob := range map[string][]byte{"nothing": {}, "altered": append(append([]byte{}, first[:len(first)-1]...), first[len(first)-1]^1)} {
		put(t, s, blob)
		_, err := s.load()
		if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeSealed {
			t.Errorf("%s: %v, want code %s", name, err, tee.CodeSealed)
		}
	}
	blob, err := s.enclave.Seal(s.policy, []byte("short"), []byte(purpose))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, blob)
	if _, err := s.load(); err == nil {
		t.Error("a state of another size is accepted")
	}
}
