package wasm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place is a directory that a module sees as /d, beside one that it must not.
type place struct {
	dir, outside string
}

// newPlace makes
//
//	d/file                  "inside"
//	d/sub/deep              "deep"
//	d/link-in               -> file
//	d/link-out              -> the file outside, absolute
//	d/link-up               -> ../outside/secret
//	d/link-dir              -> ../outside
//	d/dangling              -> ../outside/new
//	d/nowhere               -> sub/none
//	outside/secret          "secret"
func newPlace(t *testing.T) *place {
	t.Helper()
	base := t.TempDir()
	p := &place{filepath.Join(base, "d"), filepath.Join(base, "outside")}
	for _, dir := range []string{p.dir, filepath.Join(p.dir, "sub"), p.outside} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range map[string]string{"d/file": "inside", "d/sub/deep": "deep", "outside/secret": "secret"} {
		if err := os.WriteFile(filepath.Join(base, path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"link-in": "file", "link-out": filepath.Join(p.outside, "secret"), "link-up": "../outside/secret",
		"link-dir": "../outside", "dangling": "../outside/new", "nowhere": "sub/none",
	} {
		if err := os.Symlink(to, filepath.Join(p.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// steps runs the guest files and returns what came of each step.
func (p *place) steps(t *testing.T, readOnly bool, args ...string) []string {
	t.Helper()
	c := Command{Module: filesGuest, Args: append([]string{"me"}, args...), Dirs: map[string]string{"/d": p.dir}}
	if readOnly {
		c.ReadOnly = []string{"/d"}
	}
	stdout, stderr, status, err := ran(t, c)
	if status != 0 || err != nil {
		t.Fatalf("status %d, %v, %s", status, err, stderr)
	}
	return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
}

// wants compares steps with what should come of them.
func (p *place) wants(t *testing.T, readOnly bool, steps ...string) {
	t.Helper()
	var args, want []string
	for _, s := range steps {
		step, result, _ := strings.Cut(s, " = ")
		words := strings.Fields(step)
		args = append(args, words...)
		want = append(want, words[0]+" "+result)
	}
	got := p.steps(t, readOnly, args...)
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: got %q", steps[i], got[i])
		}
	}
}

func (p *place) untouched(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.outside, "secret"))
	if err != nil || string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
	entries, err := os.ReadDir(p.outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside lie %v, %v, want one file", entries, err)
	}
}

func TestFiles(t *testing.T) {
	p := newPlace(t)
	p.wants(t, false,
		"read /d/file = inside", "read /d/sub/deep = deep", "read /d/sub/../file = inside", "read /d/none = ENOENT",
		"create /d/new = written", "read /d/new = guest", "append /d/new = written", "read /d/new = guestguest",
		"mkdir /d/made = made", "create /d/made/x = written", "list /d/made = x;", "rename /d/made/x /d/y = renamed",
		"rmdir /d/made = removed", "unlink /d/y = removed", "stat /d/y = ENOENT", "truncate /d/new = truncated", "read /d/new = ",
		"link /d/file /d/same = linked", "read /d/same = inside", "touch /d/same = touched",
		"stat /d/sub = there", "lstat /d/link-in = link", "readlink /d/link-in = file", "read /d/link-in = inside")
	p.untouched(t)
	info, err := os.Stat(filepath.Join(p.dir, "new"))
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("a file of the module has mode %v, %v: others can read it", info.Mode(), err)
	}
}

// TestNothingLeadsOutside: not by dots, not by links, in no operation.
func TestNothingLeadsOutside(t *testing.T) {
	p := newPlace(t)
	p.wants(t, false,
		"read /d/link-out = EPERM", "read /d/link-up = EPERM", "read /d/link-dir/secret = EPERM", "list /d/link-dir = EPERM",
		"stat /d/link-out = EPERM", "stat /d/link-dir/secret = EPERM", "lstat /d/link-dir/secret = EPERM",
		"write /d/link-out = EPERM", "append /d/link-up = EPERM", "truncate /d/link-out = EPERM", "touch /d/link-out = EPERM",
		"create /d/link-dir/new = EPERM", "mkdir /d/link-dir/new = EPERM", "unlink /d/link-dir/secret = EPERM", "rmdir /d/link-dir/x = EPERM",
		"rename /d/file /d/link-dir/file = EPERM", "rename /d/link-dir/secret /d/taken = EPERM",
		"link /d/link-dir/secret /d/taken = EPERM", "link /d/file /d/link-dir/file = EPERM", "readlink /d/link-dir/secret = EPERM",
		"create /d/dangling = EPERM", "create /d/nowhere = ENOENT", "symlink /etc /d/etc = EPERM", "symlink file /d/also = EPERM",
		"lstat /d/link-out = link", "unlink /d/link-out = removed") // the link itself is the module's
	p.untouched(t)
	for _, path := range []string{"/d/../outside/secret", "/d/sub/../../outside/secret", "/outside/secret", p.outside + "/secret"} {
		if got := p.steps(t, false, "read", path); strings.Contains(got[0], "secret") {
			t.Errorf("read %s: %q", path, got)
		}
	}
}

// TestReadOnly: nothing about the directory changes, whichever way.
func TestReadOnly(t *testing.T) {
	p := newPlace(t)
	p.wants(t, true,
		"read /d/file = inside", "list /d/sub = deep;", "stat /d/file = there", "lstat /d/link-in = link", "readlink /d/link-in = file",
		"write /d/file = EROFS", "append /d/file = EROFS", "create /d/new = EROFS", "truncate /d/file = EROFS",
		"unlink /d/file = EROFS", "mkdir /d/new = EROFS", "rmdir /d/sub = EROFS", "rename /d/file /d/new = EROFS",
		"touch /d/file = EROFS", "link /d/file /d/new = EROFS", "symlink file /d/new = EPERM", "read /d/link-out = EPERM")
	for _, line := range p.steps(t, true, "change", "/d/file") {
		for _, done := range []string{"written", "truncated", "touched"} {
			if strings.Contains(line, done) {
				t.Errorf("a file opened for reading: %s", line)
			}
		}
	}
	b, err := os.ReadFile(filepath.Join(p.dir, "file"))
	if err != nil || string(b) != "inside" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	info, err := os.Stat(filepath.Join(p.dir, "file"))
	if err != nil || info.ModTime().Unix() == 1 {
		t.Error("the file's time was changed")
	}
	p.untouched(t)
}

// TestTwoDirectories: what is read-only stays so beside one that is not, and
// nothing moves between them.
func TestTwoDirectories(t *testing.T) {
	in, out := newPlace(t), newPlace(t)
	stdout, _, status, err := ran(t, Command{
		Module: filesGuest, Dirs: map[string]string{"/in": in.dir, "/out": out.dir}, ReadOnly: []string{"/in"},
		Args: []string{"me", "create", "/out/x", "create", "/in/x", "rename", "/out/x", "/in/x", "link", "/in/file", "/out/y", "rename", "/in/file", "/out/file", "read", "/in/file", "read", "/in/../out/x"},
	})
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v", status, err)
	}
	lines := strings.Split(stdout, "\n")
	if lines[0] != "create written" || lines[1] != "create EROFS" || lines[5] != "read inside" {
		t.Errorf("printed %q", lines)
	}
	for _, line := range lines[2:5] {
		if strings.HasSuffix(line, "renamed") || strings.HasSuffix(line, "linked") {
			t.Errorf("printed %q: a file crossed from one directory to the other", lines)
		}
	}
	if _, err := os.Stat(filepath.Join(in.dir, "x")); err == nil {
		t.Error("the read-only directory has a new file")
	}
}
