package initramfs_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/compute/initramfs"
)

// some files of every type.
func some() []initramfs.File {
	return []initramfs.File{
		{Path: "init", Mode: 0o755, Data: []byte("#!program")},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "lib/modules/a.ko", Mode: 0o644, Data: bytes.Repeat([]byte{7}, 5)},
		{Path: "lib/modules", Mode: fs.ModeDir | 0o700},
		{Path: "bin", Mode: fs.ModeSymlink | 0o777, Data: []byte("sbin")},
		{Path: "proc", Mode: fs.ModeDir | 0o555},
		{Path: "empty", Mode: 0o600},
	}
}

// read reads an archive by the form's description: what a kernel would see.
func read(t interface{ Fatalf(string, ...any) }, b []byte) []initramfs.File {
	var out []initramfs.File
	for {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header in %.20q", b)
		}
		n := make([]int, 13)
		for i := range n {
			v, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("header %q: %v", b[:110], err)
			}
			n[i] = int(v)
		}
		fill := func(n int) int { return (n + 3) / 4 * 4 }
		name := string(b[110 : 110+n[11]-1])
		data := b[fill(110+n[11]):][:n[6]]
		b = b[fill(fill(110+n[11])+n[6]):]
		if n[2]|n[3]|n[5]|n[7]|n[8]|n[12] != 0 {
			t.Fatalf("%s: owner, time, device or checksum: %v", name, n)
		}
		if name == "TRAILER!!!" {
			if len(b) != 0 {
				t.Fatalf("%d bytes behind the end", len(b))
			}
			return out
		}
		if n[0] != len(out)+1 {
			t.Fatalf("%s has inode %d", name, n[0])
		}
		mode := fs.FileMode(n[1] & 0o777)
		switch n[1] &^ 0o777 {
		case 0o100000:
		case 0o040000:
			mode |= fs.ModeDir
		case 0o120000:
			mode |= fs.ModeSymlink
		case 0o020000:
			mode |= fs.ModeDevice | fs.ModeCharDevice
		default:
			t.Fatalf("%s: mode %o", name, n[1])
		}
		f := initramfs.File{Path: name, Mode: mode, Major: uint32(n[9]), Minor: uint32(n[10])}
		if len(data) > 0 {
			f.Data = slices.Clone(data)
		}
		out = append(out, f)
	}
}

func TestBuild(t *testing.T) {
	b, err := initramfs.Build(some())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range read(t, b) {
		got = append(got, fmt.Sprintf("%v %s %q %d:%d", f.Mode, f.Path, f.Data, f.Major, f.Minor))
	}
	want := []string{
		`Lrwxrwxrwx bin "sbin" 0:0`, `drwxr-xr-x dev "" 0:0`, `Dcrw------- dev/console "" 5:1`, `-rw------- empty "" 0:0`,
		`-rwxr-xr-x init "#!program" 0:0`, `drwxr-xr-x lib "" 0:0`, `drwx------ lib/modules "" 0:0`,
		`-rw-r--r-- lib/modules/a.ko "\a\a\a\a\a" 0:0`, `dr-xr-xr-x proc "" 0:0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// TestSameBytes: the order in which files are named does not count, and these bytes
// stay what they are: they are in measurements.
func TestSameBytes(t *testing.T) {
	files := some()
	b, err := initramfs.Build(files)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	again, err := initramfs.Build(files)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("other bytes in another order, %v", err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != "bf3dd57a617c012b805d4228c895ea37a58ed4bf62acecefd4e18af749c1f34e" {
		t.Errorf("digest %s", got)
	}
}

// TestProperty: what goes in comes out, with the directories above.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c]{1,2}(/[a-c]{1,2}){0,3}`), 0, 12, rapid.ID[string]).Draw(t, "names")
		var files []initramfs.File
		for _, n := range names {
			files = append(files, initramfs.File{Path: n, Mode: fs.FileMode(rapid.IntRange(0, 0o777).Draw(t, "mode")), Data: rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "data")})
		}
		nested := slices.ContainsFunc(names, func(n string) bool {
			return slices.ContainsFunc(names, func(o string) bool { return strings.HasPrefix(o, n+"/") })
		})
		b, err := initramfs.Build(files)
		if nested != (err != nil) {
			t.Fatalf("%v: %v", names, err)
		}
		if err != nil {
			return
		}
		var got []string
		for _, f := range read(t, b) {
			if i := slices.Index(names, f.Path); i >= 0 {
				if f.Mode != files[i].Mode || !bytes.Equal(f.Data, files[i].Data) {
					t.Fatalf("%+v, want %+v", f, files[i])
				}
				got = append(got, f.Path)
			} else if !f.Mode.IsDir() || !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, f.Path+"/") }) {
				t.Fatalf("%+v is nobody's", f)
			}
		}
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Fatalf("%v, want %v", got, names)
		}
	})
}

func TestBuildRefuses(t *testing.T) {
	for name, files := range map[string][]initramfs.File{
		"no path":        {{}},
		"absolute":       {{Path: "/init", Mode: 0o755}},
		"upwards":        {{Path: "../init", Mode: 0o755}},
		"not clean":      {{Path: "a//b", Mode: 0o755}},
		"a zero":         {{Path: "a\x00b", Mode: 0o755}},
		"long":           {{Path: strings.Repeat("a", 1025), Mode: 0o755}},
		"twice":          {{Path: "a", Mode: 0o755}, {Path: "a", Mode: 0o644}},
		"in a file":      {{Path: "a", Mode: 0o755}, {Path: "a/b", Mode: 0o644}},
		"a socket":       {{Path: "a", Mode: fs.ModeSocket}},
		"a block device": {{Path: "a", Mode: fs.ModeDevice}},
		"setuid":         {{Path: "a", Mode: fs.ModeSetuid | 0o755}},
		"full directory": {{Path: "a", Mode: fs.ModeDir | 0o755, Data: []byte("x")}},
		"full device":    {{Path: "a", Mode: fs.ModeDevice | fs.ModeCharDevice, Data: []byte("x")}},
		"numbered file":  {{Path: "a", Mode: 0o644, Minor: 1}},
		"numbered link":  {{Path: "a", Mode: fs.ModeSymlink | 0o777, Major: 1}},
		"too many":       make([]initramfs.File, initramfs.MaxFiles+1),
	} {
		if b, err := initramfs.Build(files); !errors.Is(err, initramfs.ErrFile) || b != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// TestCpio has the archive unpacked by another program, where there is one.
func TestCpio(t *testing.T) {
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio on this machine: nothing else reads the archive here")
	}
	files := slices.DeleteFunc(some(), func(f initramfs.File) bool { return f.Mode&fs.ModeDevice != 0 }) // those need root
	b, err := initramfs.Build(files)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(cpio, "-id", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, f := range files {
		st, err := os.Lstat(filepath.Join(dir, f.Path))
		if err != nil || st.Mode() != f.Mode {
			t.Errorf("%s: %v, %v, want %v", f.Path, st, err, f.Mode)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(dir, f.Path)); f.Mode.IsRegular() && (err != nil || !bytes.Equal(got, f.Data)) {
			t.Errorf("%s: %q, %v", f.Path, got, err)
		}
	}
}

func Example() {
	archive, err := initramfs.Build([]initramfs.File{
		{Path: "init", Mode: 0o755, Data: []byte("a static executable")},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
	})
	fmt.Println(len(archive), err)
	// Output: 500 <nil>
}
