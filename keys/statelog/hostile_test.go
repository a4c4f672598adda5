package statelog

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
)

// refuses checks that a file is refused with one of the codes, and left alone:
// refusing must not destroy what a restore could still use.
func refuses(t *testing.T, f TEE, b []byte, codes ...tee.Code) {
	t.Helper()
	path := file(t, b)
	_, err := openLog(t, f, path)
	wantCode(t, err, codes...)
	if !bytes.Equal(read(t, path), b) {
		t.Error("the refused file was changed")
	}
}

// Every older copy of the file is refused, and so is no file at all.
func TestRollback(t *testing.T) {
	f, path := newTEE("code"), filepath.Join(t.TempDir(), "log")
	l := mustOpen(t, f, path)
	copies := [][]byte{nil, read(t, path)}
	for _, e := range []string{"a", "b", "c"} {
		l.add(t, e)
		copies = append(copies, read(t, path))
	}
	l.Close()
	for i, b := range copies[:len(copies)-1] {
		t.Logf("copy %d of %d bytes", i, len(b))
		refuses(t, f, b, tee.CodeRollback)
	}
	wantEntries(t, mustOpen(t, f, file(t, copies[len(copies)-1])), "a", "b", "c")
}

// A counter that was set back, as by restoring a TEE's storage, is noticed while
// the file is ahead of it, and the file is left alone. One record ahead looks
// like a crash, and loses nothing.
func TestCounterSetBack(t *testing.T) {
	f, path := newTEE("code"), filepath.Join(t.TempDir(), "log")
	l := mustOpen(t, f, path)
	stands := []*fakeTEE{f.copy()}
	for _, e := range []string{"a", "b", "c"} {
		l.add(t, e)
		stands = append(stands, f.copy())
	}
	l.Close()
	b := read(t, path)
	for _, old := range stands[:len(stands)-2] {
		refuses(t, old, b, tee.CodeRollback)
	}
	wantEntries(t, mustOpen(t, stands[2], file(t, b)), "a", "b", "c")
}

// The host keeps a record that a crash left behind and was never committed, and
// presents it in place of the one that was.
func TestLeftOverRecord(t *testing.T) {
	f, left, _ := crashed(t)
	withoutIt := left[:len(left)-1]
	l := mustOpen(t, f, file(t, withoutIt))
	l.add(t, "committed")
	l.Close()
	refuses(t, f, left, tee.CodeRollback)
}

// No byte of committed state can change.
func TestEveryEditIsRefused(t *testing.T) {
	f, path := newHistory(t)
	b := read(t, path)
	for i := range b {
		edited := bytes.Clone(b)
		edited[i] ^= 0x10
		refuses(t, f.copy(), edited, tee.CodeSealed, tee.CodeRollback)
	}
}

// Cut anywhere, committed state is incomplete.
func TestEveryTruncationIsRefused(t *testing.T) {
	f, path := newHistory(t)
	b := read(t, path)
	for n := range b {
		refuses(t, f.copy(), b[:n], tee.CodeSealed, tee.CodeRollback)
	}
}

func TestRearrangedRecords(t *testing.T) {
	f, path := newHistory(t)
	r := records(t, read(t, path))
	if len(r) != 6 { // key, batch, batch, key, batch, batch
		t.Fatalf("%d records", len(r))
	}
	_, otherPath := newHistory(t)
	foreign := records(t, read(t, otherPath))
	cases := map[string][]byte{
		"two batches swapped":    join(r[0], r[2], r[1], r[3], r[4], r[5]),
		"the last two swapped":   join(r[0], r[1], r[2], r[3], r[5], r[4]),
		"keys swapped":           join(r[3], r[1], r[2], r[0], r[4], r[5]),
		"a batch missing":        join(r[0], r[2], r[3], r[4], r[5]),
		"the last batch missing": join(r[0], r[1], r[2], r[3], r[4]),
		"a key missing":          join(r[0], r[1], r[2], r[4], r[5]),
		"no key":                 join(r[1:]...),
		"a batch twice":          join(r[0], r[1], r[1], r[2], r[3], r[4], r[5]),
		"a batch of another log": join(r[0], foreign[1], r[2], r[3], r[4], r[5]),
		"another log":            read(t, otherPath),
		"a key of another log":   join(foreign[0], r[1], r[2], r[3], r[4], r[5]),
		// Key records open anywhere: only the chain tells that these do not belong.
		"keys in place of batches":                      join(r[0], r[1], r[2], r[3], r[3], r[3]),
		"keys in place of batches, and one more record": join(r[0], r[1], r[2], r[3], r[3], r[3], r[3]),
		"no records":               join(),
		"another magic":            append([]byte("cloister state log v2\n"), join(r...)[len(magic):]...),
		"a record that is neither": join(r[0], []byte{0, 0, 0, 1, 0xa0}, r[2], r[3], r[4], r[5]),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) { refuses(t, f.copy(), b, tee.CodeSealed, tee.CodeRollback) })
	}
}

// What lies behind the last committed record is nothing, and goes.
func TestBytesBehindTheEnd(t *testing.T) {
	f, path := newHistory(t)
	b := read(t, path)
	r := records(t, b)
	for name, extra := range map[string][]byte{
		"garbage": []byte("garbage"), "zeros": make([]byte, 1000), "the last record again": r[5], "a key again": r[3], "an empty record": {0, 0, 0, 1, 0xa0},
		"two records again": slices.Concat(r[4], r[5]), "a huge length": {0xff, 0xff, 0xff, 0xff, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tee, path := f.copy(), file(t, append(bytes.Clone(b), extra...))
			l := mustOpen(t, tee, path)
			wantEntries(t, l, history...)
			l.add(t, "new")
			l.Close()
			wantEntries(t, mustOpen(t, tee, path), append(slices.Clone(history), "new")...)
		})
	}
}

// Other code on the same platform reads nothing, and destroys nothing.
func TestOtherCode(t *testing.T) {
	f, path := newHistory(t)
	b := read(t, path)
	other := newTEE("other code")
	refuses(t, other, b, tee.CodeSealed) // its own counters, which stand at 0
	other.counters = f.counters
	refuses(t, other, b, tee.CodeSealed) // shared counters
	refuses(t, newTEE("code"), b, tee.CodeRollback)
}

// One log is not another log of the same code.
func TestOtherCounter(t *testing.T) {
	f, path := newHistory(t)
	f.counters["second"] = f.counters[name]
	l, err := Open(t.Context(), f, path, "second", func(Position, []byte) error { return nil })
	if l != nil {
		t.Error("a log beside an error")
	}
	wantCode(t, err, tee.CodeSealed)
}

// A path that names some other file by mistake.
func TestForeignFile(t *testing.T) {
	for _, b := range [][]byte{[]byte("x"), []byte("the only copy of somebody's thesis"), []byte("cloister state log v9\n and more")} {
		refuses(t, newTEE("code"), b, tee.CodeSealed)
	}
}

func TestReadRefusesEdits(t *testing.T) {
	f, path := newHistory(t)
	l := mustOpen(t, f, path)
	b := read(t, path)
	for i := len(magic); i < len(b); i += 7 {
		edited := bytes.Clone(b)
		edited[i] ^= 1
		if err := os.WriteFile(path, edited, 0o600); err != nil {
			t.Fatal(err)
		}
		for n, p := range l.positions {
			got, err := l.Read(p)
			if err != nil {
				wantCode(t, err, tee.CodeSealed)
			} else if string(got) != history[n] {
				t.Fatalf("byte %d: read %q, want %q", i, got, history[n])
			}
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.positions[0]
	p.index = 9
	_, err := l.Read(p)
	wantCode(t, err, tee.CodeSealed)
	p = l.positions[0]
	p.offset = 1 << 40
	_, err = l.Read(p)
	wantCode(t, err, tee.CodeSealed)
}

// FuzzOpen is a host that puts anything in place of the file. It has no key, so
// what opens is what was committed.
func FuzzOpen(f *testing.F) {
	t, path := newHistory(f)
	b := read(f, path)
	_, torn, _ := crashed(f)
	f.Add(b)
	f.Add(torn)
	f.Add([]byte(magic))
	f.Add(append(bytes.Clone(b), 0, 0, 0, 2, 0xa1, 0x01))
	file := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(ft *testing.T, b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			ft.Fatal(err)
		}
		empty := newTEE("code")
		for _, tee := range []*fakeTEE{t.copy(), empty} {
			l, err := openLog(ft, tee, file)
			if err != nil {
				continue
			}
			switch {
			case tee != empty:
				wantEntries(ft, l, history...)
			case len(l.entries) > 0:
				ft.Fatalf("entries out of nothing: %q", l.entries)
			}
		}
	})
}
