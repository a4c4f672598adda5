package statelog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
)

func TestRoundTrip(t *testing.T) {
	f, path := newTEE("code"), filepath.Join(t.TempDir(), "log")
	l := mustOpen(t, f, path)
	wantEntries(t, l)
	positions := l.add(t, "one")
	positions = append(positions, l.add(t, "two", "", strings.Repeat("long", 100_000))...)
	want := []string{"one", "two", "", strings.Repeat("long", 100_000)}
	for i, p := range positions {
		if b, err := l.Read(p); err != nil || string(b) != want[i] {
			t.Errorf("read entry %d: %d bytes, %v", i, len(b), err)
		}
	}
	for range 3 { // every process adds a key of its own
		l.Close()
		l = mustOpen(t, f, path)
		wantEntries(t, l, want...)
		l.add(t, "more")
		want = append(want, "more")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if b := read(t, path); bytes.Contains(b, []byte("one")) || bytes.Contains(b, []byte("longlong")) {
		t.Error("entries lie on the disk in the clear")
	}
}

func TestReopenWithoutAppend(t *testing.T) {
	f, path := newHistory(t)
	before := f.counters[name]
	for range 2 {
		l := mustOpen(t, f, path)
		wantEntries(t, l, history...)
		l.Close()
	}
	if f.counters[name] != before {
		t.Error("reading moved the counter")
	}
}

// crashed returns a log whose last record, the batch "lost", is on the disk and
// was not counted.
func crashed(t testing.TB) (f *fakeTEE, b []byte, last int) {
	t.Helper()
	f, path := newHistory(t)
	l := mustOpen(t, f, path)
	l.add(t, "kept")
	committed := len(read(t, path))
	f.broken = errors.New("power failure")
	if _, err := l.Append(t.Context(), [][]byte{[]byte("lost")}); !errors.Is(err, f.broken) {
		t.Fatalf("append: %v", err)
	}
	l.Close()
	f.broken = nil
	b = read(t, path)
	return f, b, len(b) - committed
}

// A record that was cut short anywhere was never acknowledged and is dropped.
// One that is complete is kept, and counted now.
func TestTornWrite(t *testing.T) {
	f, b, last := crashed(t)
	kept := append(slices.Clone(history), "kept")
	for cut := range last + 1 {
		tee, path := f.copy(), file(t, b[:len(b)-cut])
		l := mustOpen(t, tee, path)
		want := kept
		if cut == 0 {
			want = append(slices.Clone(kept), "lost")
		}
		wantEntries(t, l, want...)
		l.add(t, "new")
		l.Close()
		l = mustOpen(t, tee, path)
		wantEntries(t, l, append(slices.Clone(want), "new")...)
		l.Close()
	}
}

// Not every block of the last record reached the disk before the crash.
func TestTornWriteWithHoles(t *testing.T) {
	f, b, last := crashed(t)
	kept := append(slices.Clone(history), "kept")
	for from := len(b) - last; from < len(b); from++ {
		holes := bytes.Clone(b)
		clear(holes[from:])
		if bytes.Equal(holes, b) {
			continue // the byte was zero
		}
		wantEntries(t, mustOpen(t, f.copy(), file(t, holes)), kept...)
	}
}

// Between the write and the counter step the record may be finished by the next
// process, even when that crashes at the same place.
func TestCrashBetweenWriteAndCounter(t *testing.T) {
	f, b, _ := crashed(t)
	path := file(t, b)
	f.broken = errors.New("power failure again")
	_, err := openLog(t, f, path)
	if !errors.Is(err, f.broken) {
		t.Fatalf("open: %v", err)
	}
	f.broken = nil
	before := f.counters[name].value
	wantEntries(t, mustOpen(t, f, path), append(slices.Clone(history), "kept", "lost")...)
	if got := f.counters[name].value; got != before+1 {
		t.Errorf("counter %d, want %d", got, before+1)
	}
}

// The very first records can be cut short too.
func TestCrashAtTheStart(t *testing.T) {
	f, path := newTEE("code"), filepath.Join(t.TempDir(), "log")
	l := mustOpen(t, f, path)
	f.broken = errors.New("power failure")
	if _, err := l.Append(t.Context(), [][]byte{[]byte("lost")}); err == nil {
		t.Fatal("accepted")
	}
	l.Close()
	f.broken = nil
	b := read(t, path)
	for cut := range len(b) + 1 {
		tee, path := f.copy(), file(t, b[:len(b)-cut])
		l := mustOpen(t, tee, path)
		wantEntries(t, l)
		l.add(t, "new")
		l.Close()
		wantEntries(t, mustOpen(t, tee, path), "new")
	}
	zeros := file(t, make([]byte, len(magic)))
	wantEntries(t, mustOpen(t, f.copy(), zeros))
}

func TestAppendAfterAnErrorIsRefused(t *testing.T) {
	for _, what := range []string{"counter", "file", "sealing"} {
		t.Run(what, func(t *testing.T) {
			f, path := newHistory(t)
			l := mustOpen(t, f, path)
			switch what {
			case "counter":
				f.broken = errors.New("broken")
			case "file":
				l.file.Close()
			case "sealing":
				f.sealing = errors.New("broken")
			}
			_, err := l.Append(t.Context(), [][]byte{[]byte("a")})
			if err == nil {
				t.Fatal("accepted")
			}
			f.broken, f.sealing = nil, nil
			if _, again := l.Append(t.Context(), [][]byte{[]byte("b")}); again == nil || !strings.Contains(again.Error(), "closed after an error") {
				t.Errorf("after %v: %v", err, again)
			}
			got := mustOpen(t, f, path).entries
			if !slices.Equal(got, history) {
				t.Errorf("entries %q", got)
			}
		})
	}
}

// A batch that is too large is the caller's mistake and leaves the log in use.
func TestTooLargeBatch(t *testing.T) {
	f, path := newHistory(t)
	l := mustOpen(t, f, path)
	if _, err := l.Append(t.Context(), [][]byte{make([]byte, MaxRecord)}); err == nil || strings.Contains(err.Error(), "%!") {
		t.Fatalf("got %v", err)
	}
	largest := strings.Repeat("a", MaxRecord-64)
	l.add(t, largest)
	l.Close()
	wantEntries(t, mustOpen(t, f, path), append(slices.Clone(history), largest)...)
}

var errReplay = errors.New("the service does not take it")

// What the service refuses it refuses, also when the entry is the last and was
// not counted: the log must not go on as if it had been taken.
func TestReplayErrors(t *testing.T) {
	f, b, _ := crashed(t)
	entries := append(slices.Clone(history), "kept", "lost")
	for i := range entries {
		path, tee, n := file(t, b), f.copy(), 0
		l, err := Open(t.Context(), tee, path, name, func(Position, []byte) error {
			if n++; n > i {
				return errReplay
			}
			return nil
		})
		if l != nil || !errors.Is(err, errReplay) {
			t.Errorf("entry %d: %v", i, err)
		}
		if tee.counters[name] != f.counters[name] || !bytes.Equal(read(t, path), b) {
			t.Errorf("entry %d: the state was changed", i)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	f, path := newHistory(t)
	b := read(t, path)
	if _, err := openLog(t, f, filepath.Join(t.TempDir(), "no", "such", "dir")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
	away := &tee.Error{Code: tee.CodeUnavailable, Op: "test"}
	f.broken = away
	_, err := openLog(t, f, path)
	wantCode(t, err, tee.CodeUnavailable)
	f.broken, f.sealing = nil, away
	_, err = openLog(t, f, path)
	wantCode(t, err, tee.CodeUnavailable)
	if !bytes.Equal(read(t, path), b) {
		t.Error("the file was changed")
	}
}

// A TEE that goes away while the last, uncounted record is opened is no reason
// to drop it.
func TestUnavailableDropsNothing(t *testing.T) {
	f, path := newHistory(t)
	l := mustOpen(t, f, path)
	f.broken = errors.New("power failure")
	if _, err := l.Append(t.Context(), [][]byte{[]byte("lost")}); err == nil { // its key record is the last
		t.Fatal("accepted")
	}
	l.Close()
	b := read(t, path)
	f.broken, f.sealing, f.good = nil, &tee.Error{Code: tee.CodeUnavailable, Op: "test"}, 2 // the keys of the history
	_, err := openLog(t, f, path)
	wantCode(t, err, tee.CodeUnavailable)
	if !bytes.Equal(read(t, path), b) {
		t.Error("the file was changed")
	}
}
