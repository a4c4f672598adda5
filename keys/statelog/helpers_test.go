package statelog

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTEE derives sealing keys from a code's secret and counts in memory.
type fakeTEE struct {
	code     string
	counters map[string]counter
	broken   error // of counters, as of a TEE that goes away
	sealing  error
	good     int // sealing keys given before sealing fails
}

type counter struct {
	value  uint64
	digest [32]byte
}

func newTEE(code string) *fakeTEE { return &fakeTEE{code: code, counters: map[string]counter{}} }

func (f *fakeTEE) SealingKey(_ context.Context, p tee.SealPolicy, salt []byte) ([]byte, error) {
	h := hmac.New(sha256.New, []byte(f.code+" "+p.To))
	h.Write(salt)
	if f.good > 0 {
		f.good--
		return h.Sum(nil), nil
	}
	return h.Sum(nil), f.sealing
}

func (f *fakeTEE) ReadCounter(_ context.Context, name string) (uint64, [32]byte, error) {
	c := f.counters[name]
	return c.value, c.digest, f.broken
}

func (f *fakeTEE) AdvanceCounter(_ context.Context, name string, from uint64, digest [32]byte) error {
	if f.broken != nil {
		return f.broken
	}
	if f.counters[name].value != from {
		return &tee.Error{Code: tee.CodeCounter, Op: "advance"}
	}
	f.counters[name] = counter{from + 1, digest}
	return nil
}

// copy is the TEE with its counters as they stand now.
func (f *fakeTEE) copy() *fakeTEE {
	c := newTEE(f.code)
	maps.Copy(c.counters, f.counters)
	return c
}

const name = "counter"

// opened is a log with what its replay gave.
type opened struct {
	*Log
	entries   []string
	positions []Position
}

func openLog(t testing.TB, f TEE, path string) (*opened, error) {
	t.Helper()
	o := &opened{}
	l, err := Open(t.Context(), f, path, name, func(p Position, b []byte) error {
		o.entries, o.positions = append(o.entries, string(b)), append(o.positions, p)
		return nil
	})
	if err != nil {
		if l != nil {
			t.Error("a log beside an error")
		}
		return nil, err
	}
	o.Log = l
	t.Cleanup(func() { _ = l.Close() })
	return o, nil
}

func mustOpen(t testing.TB, f TEE, path string) *opened {
	t.Helper()
	o, err := openLog(t, f, path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *opened) add(t testing.TB, entries ...string) []Position {
	t.Helper()
	var b [][]byte
	for _, e := range entries {
		b = append(b, []byte(e))
	}
	p, err := o.Append(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// history is a committed log of four batches by two processes.
var history = []string{"one", "two", "three", "", "five", "six"}

func newHistory(t testing.TB) (f *fakeTEE, path string) {
	t.Helper()
	f, path = newTEE("code"), filepath.Join(t.TempDir(), "log")
	l := mustOpen(t, f, path)
	l.add(t, "one")
	l.add(t, "two", "three", "")
	l.Close()
	l = mustOpen(t, f, path)
	l.add(t, "five")
	l.add(t, "six")
	l.Close()
	return f, path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file writes bytes to a file of their own.
func file(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// records cuts a file into its records, lengths included.
func records(t testing.TB, b []byte) [][]byte {
	t.Helper()
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		t.Fatal("no magic")
	}
	var out [][]byte
	for len(rest) > 0 {
		n := 4 + binary.BigEndian.Uint32(rest)
		out = append(out, rest[:n])
		rest = rest[n:]
	}
	return out
}

func join(records ...[]byte) []byte { return append([]byte(magic), slices.Concat(records...)...) }

func wantEntries(t testing.TB, o *opened, want ...string) {
	t.Helper()
	if fmt.Sprintf("%q", o.entries) != fmt.Sprintf("%q", want) {
		t.Fatalf("entries %q, want %q", o.entries, want)
	}
	for i, p := range o.positions {
		if b, err := o.Read(p); err != nil || string(b) != want[i] {
			t.Fatalf("read entry %d: %q, %v", i, b, err)
		}
	}
}

func wantCode(t testing.TB, err error, codes ...tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.Error](err)
	if !ok || !slices.Contains(codes, e.Code) {
		t.Fatalf("got %v, want a *tee.Error with one of %v", err, codes)
	}
}
