package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	wasisys "github.com/tetratelabs/wazero/sys"
)

// dir is a directory of this system as a module sees it. wazero's own directory
// follows symbolic links wherever they lead, and its read-only form truncates
// files; this one resolves every path inside the directory first ([os.Root]),
// makes no symbolic links, and opens nothing for change when it is read-only.
//
// The check comes before the use: it holds against the module, which does one
// thing at a time, and against links that lay there before. Whoever changes the
// directory meanwhile from outside meets the process's sandbox.
type dir struct {
	sys.FS
	root     *os.Root
	readOnly bool
}

// newDir opens the directory at host.
func newDir(host string, readOnly bool) (*dir, error) {
	root, err := os.OpenRoot(host)
	if err != nil {
		return nil, fmt.Errorf("open directory for the module: %w", err)
	}
	return &dir{FS: sysfs.DirFS(host), root: root, readOnly: readOnly}, nil
}

// follow says whether all of p, symbolic links included, stays inside.
func (d *dir) follow(p string) sys.Errno {
	name := local(p)
	_, err := d.root.Stat(name)
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, fs.ErrNotExist):
		return refusal(err)
	}
	if _, err := d.root.Lstat(name); err == nil {
		return sys.ENOENT // a link that leads nowhere yet: nothing is made behind it
	}
	return d.parent(p)
}

// parent says whether the directory that p lies in stays inside.
func (d *dir) parent(p string) sys.Errno {
	_, err := d.root.Stat(path.Dir(local(p)))
	if err == nil {
		return 0
	}
	return refusal(err)
}

// change is parent for what alters the directory.
func (d *dir) change(p string) sys.Errno {
	if d.readOnly {
		return sys.EROFS
	}
	return d.parent(p)
}

// local is p as [os.Root] wants it.
func local(p string) string {
	if p = strings.TrimRight(p, "/"); p == "" {
		return "."
	}
	return p
}

func refusal(err error) sys.Errno {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sys.ENOENT
	case errors.Is(err, fs.ErrPermission):
		return sys.EACCES
	}
	if errno := sys.UnwrapOSError(err); errno != sys.EIO {
		return errno
	}
	return sys.EPERM // the path leads outside
}

// OpenFile implements [sys.FS].
func (d *dir) OpenFile(p string, flag sys.Oflag, perm fs.FileMode) (sys.File, sys.Errno) {
	const changes = sys.O_WRONLY | sys.O_RDWR | sys.O_CREAT | sys.O_TRUNC | sys.O_APPEND
	if d.readOnly && flag&changes != 0 {
		return nil, sys.EROFS
	}
	if errno := d.follow(p); errno != 0 {
		return nil, errno
	}
	f, errno := d.FS.OpenFile(p, flag, perm&0o700)
	if errno != 0 || !d.readOnly {
		return f, errno
	}
	return readOnlyFile{f}, 0
}

// Stat implements [sys.FS].
func (d *dir) Stat(p string) (wasisys.Stat_t, sys.Errno) {
	if errno := d.follow(p); errno != 0 {
		return wasisys.Stat_t{}, errno
	}
	return d.FS.Stat(p)
}

// Lstat implements [sys.FS].
func (d *dir) Lstat(p string) (wasisys.Stat_t, sys.Errno) {
	if errno := d.parent(p); errno != 0 {
		return wasisys.Stat_t{}, errno
	}
	return d.FS.Lstat(p)
}

// Readlink implements [sys.FS].
func (d *dir) Readlink(p string) (string, sys.Errno) {
	if errno := d.parent(p); errno != 0 {
		return "", errno
	}
	return d.FS.Readlink(p)
}

// Mkdir implements [sys.FS].
func (d *dir) Mkdir(p string, perm fs.FileMode) sys.Errno {
	if errno := d.change(p); errno != 0 {
		return errno
	}
	return d.FS.Mkdir(p, perm&0o700)
}

// Chmod implements [sys.FS].
func (d *dir) Chmod(p string, perm fs.FileMode) sys.Errno {
	if errno := d.changeBehind(p); errno != 0 {
		return errno
	}
	return d.FS.Chmod(p, perm&0o700)
}

// Utimens implements [sys.FS].
func (d *dir) Utimens(p string, atim, mtim int64) sys.Errno {
	if errno := d.changeBehind(p); errno != 0 {
		return errno
	}
	return d.FS.Utimens(p, atim, mtim)
}

// changeBehind is change for what follows a link at the end.
func (d *dir) changeBehind(p string) sys.Errno {
	if d.readOnly {
		return sys.EROFS
	}
	return d.follow(p)
}

// Rename implements [sys.FS].
func (d *dir) Rename(from, to string) sys.Errno {
	if errno := d.change(from); errno != 0 {
		return errno
	}
	if errno := d.change(to); errno != 0 {
		return errno
	}
	return d.FS.Rename(from, to)
}

// Rmdir implements [sys.FS].
func (d *dir) Rmdir(p string) sys.Errno {
	if errno := d.change(p); errno != 0 {
		return errno
	}
	return d.FS.Rmdir(p)
}

// Unlink implements [sys.FS].
func (d *dir) Unlink(p string) sys.Errno {
	if errno := d.change(p); errno != 0 {
		return errno
	}
	return d.FS.Unlink(p)
}

// Link implements [sys.FS].
func (d *dir) Link(from, to string) sys.Errno {
	if errno := d.changeBehind(from); errno != 0 {
		return errno
	}
	if errno := d.change(to); errno != 0 {
		return errno
	}
	return d.FS.Link(from, to)
}

// Symlink implements [sys.FS]: it refuses.
func (d *dir) Symlink(string, string) sys.Errno { return sys.EPERM }

// readOnlyFile is a file that was opened for reading: nothing about it changes.
type readOnlyFile struct{ sys.File }

// SetAppend implements [sys.File].
func (readOnlyFile) SetAppend(bool) sys.Errno { return sys.EROFS }

// Write implements [sys.File].
func (readOnlyFile) Write([]byte) (int, sys.Errno) { return 0, sys.EBADF }

// Pwrite implements [sys.File].
func (readOnlyFile) Pwrite([]byte, int64) (int, sys.Errno) { return 0, sys.EBADF }

// Truncate implements [sys.File].
func (readOnlyFile) Truncate(int64) sys.Errno { return sys.EBADF }

// Utimens implements [sys.File].
func (readOnlyFile) Utimens(int64, int64) sys.Errno { return sys.EROFS }
