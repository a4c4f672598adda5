package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// lines reads a console log as the command line does; every line must parse.
func lines(t *testing.T, path string) []LogLine {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []LogLine
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var l LogLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("line %d: %v: %.80q", len(all)+1, err, s.Text())
		}
		all = append(all, l)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func newLog(t *testing.T, dir string) *consoleLog {
	t.Helper()
	l, err := openLog(filepath.Join(dir, "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestLogKeepsEveryByte(t *testing.T) {
	l := newLog(t, t.TempDir())
	written := [][]byte{
		[]byte("text\n"), []byte("no line break"), []byte(`quotes " and <html> & \ `), []byte("\x00\x01\x7f"), []byte("umlaut ü, 漢字"),
		{0xff, 0xfe, 0x00}, []byte("half a rune \xe6\xbc"), []byte("\u2028\u2029\ufffd"),
	}
	for _, b := range written {
		if n, err := l.stream("stdout").Write(b); n != len(b) || err != nil {
			t.Errorf("%q: %d, %v", b, n, err)
		}
	}
	got := lines(t, l.path)
	if len(got) != len(written) {
		t.Fatalf("%d lines, want %d", len(got), len(written))
	}
	for i, b := range written {
		if back := append(got[i].Bytes, got[i].Text...); !bytes.Equal(back, b) || got[i].Stream != "stdout" || got[i].Time.IsZero() {
			t.Errorf("%q comes back as %q: %+v", b, back, got[i])
		}
	}
	if st, err := os.Stat(l.path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", st.Mode(), err)
	}
}

// The log is two files of at most four MiB each, whatever a program prints, and
// no line is lost at the change from one to the other.
func TestLogRotation(t *testing.T) {
	l := newLog(t, t.TempDir())
	chunk := strings.Repeat("x", maxLogChunk-20)
	const perFile = maxLogFile / maxLogChunk
	n := 0
	write := func(count int) {
		for range count {
			_, _ = fmt.Fprintf(l.stream("stdout"), "%08d%s", n, chunk)
			n++
		}
	}
	write(perFile + perFile/2)
	first, second := lines(t, l.path+".1"), lines(t, l.path)
	if len(first)+len(second) != n || len(second) == 0 {
		t.Fatalf("%d and %d lines, want %d together", len(first), len(second), n)
	}
	for i, line := range append(first, second...) {
		if line.Text[:8] != fmt.Sprintf("%08d", i) {
			t.Fatalf("line %d is %s", i, line.Text[:8])
		}
	}
	write(2 * perFile)
	for _, path := range []string{l.path, l.path + ".1"} {
		if st, err := os.Stat(path); err != nil || st.Size() > maxLogFile {
			t.Errorf("%s has %d bytes (%v)", path, st.Size(), err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(l.path))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v (%v), want two files", entries, err)
	}
	if last := lines(t, l.path); last[len(last)-1].Text[:8] != fmt.Sprintf("%08d", n-1) {
		t.Error("the newest line is not the last")
	}
}

// The next start of an instance goes on where the last one ended.
func TestLogGoesOn(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	_, _ = l.stream("stdout").Write([]byte("first"))
	l.close()
	if n, err := l.stream("stdout").Write([]byte("after the end")); n != 13 || err != nil {
		t.Errorf("a late line: %d, %v", n, err)
	}
	again := newLog(t, dir)
	_, _ = again.stream("stderr").Write([]byte("second"))
	got := lines(t, l.path)
	if len(got) != 2 || got[0].Text != "first" || got[1].Text != "second" {
		t.Errorf("got %+v", got)
	}
}

func TestLogOfManyStreams(t *testing.T) {
	l := newLog(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				_, _ = fmt.Fprintf(l.stream([]string{"stdout", "stderr"}[i%2]), "stream %d", i)
			}
		})
	}
	wg.Wait()
	if got := lines(t, l.path); len(got) != 1600 {
		t.Errorf("%d lines, want 1600", len(got))
	}
}

// A directory that cannot be written stops neither the program nor, once it can
// be again, the log.
func TestLogComesBackAfterAFailedRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := newLog(t, dir)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte{'x'}, maxLogChunk)
	for range maxLogFile/maxLogChunk + 1 { // rotates, and finds no directory
		if n, err := l.stream("stdout").Write(chunk); n != len(chunk) || err != nil {
			t.Fatalf("%d, %v: the program is stopped", n, err)
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	_, _ = l.stream("stdout").Write([]byte("here again"))
	got := lines(t, l.path)
	if last := got[len(got)-1]; last.Text != "here again" {
		t.Errorf("the last line is %.20q", last.Text)
	}
}

// On a full disk lines are lost, but never half of one: the next line would be
// unreadable with it.
func TestLogOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("needs the right to mount a small disk: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l := newLog(t, dir)
	line := bytes.Repeat([]byte{'x'}, 1500)
	for range 100 {
		if n, err := l.stream("stdout").Write(line); n != len(line) || err != nil {
			t.Fatalf("%d, %v: the program is stopped", n, err)
		}
	}
	full := lines(t, l.path)
	if len(full) == 0 || len(full) == 100 {
		t.Fatalf("%d lines: the disk was not full", len(full))
	}
	if err := os.Truncate(l.path, 0); err != nil { // an operator makes room
		t.Fatal(err)
	}
	_, _ = l.stream("stdout").Write([]byte("room again"))
	if got := lines(t, l.path); len(got) != 1 || got[0].Text != "room again" {
		t.Errorf("got %d lines", len(got))
	}
}
