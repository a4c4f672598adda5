package tap

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func recorded(t *testing.T, dir, ending string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

func TestConnIsRecordedBothWays(t *testing.T) {
	dir := t.TempDir()
	a, b := net.Pipe()
	c := Dir(dir).Conn("test", a)
	go func() {
		_, _ = io.WriteString(b, "hello ")
		_, _ = io.ReadFull(b, make([]byte, 5))
		_ = b.Close()
	}()
	if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "world"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := recorded(t, dir, ".in"); got != "hello " {
		t.Errorf("read %q", got)
	}
	if got := recorded(t, dir, ".out"); got != "world" {
		t.Errorf("wrote %q", got)
	}
}

func TestNoDirectoryRecordsNothing(t *testing.T) {
	a, _ := net.Pipe()
	if Dir("").Conn("test", a) != a {
		t.Error("the connection is wrapped")
	}
	in, out := Dir("").Frames("test")
	if in != io.Discard || out != io.Discard {
		t.Error("frames are kept")
	}
}

func TestARecordingThatFailsSaysSo(t *testing.T) {
	dir := t.TempDir()
	in, _ := Dir(dir).Frames("test")
	f := in.(*file)
	if err := os.Mkdir(f.path, 0o700); err != nil { // no file can be made there
		t.Fatal(err)
	}
	if n, err := in.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("Write = %d, %v: a recording must not end what it records", n, err)
	}
	if recorded(t, dir, Incomplete) == "" {
		t.Error("nothing says that the recording is incomplete")
	}
}
