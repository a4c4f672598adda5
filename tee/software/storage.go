//go:build linux

package software

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/tee"
	"golang.org/x/sys/unix"
)

// directory is a platform's directory, locked while it is open. Its methods are
// not safe for concurrent use; their callers take turns.
type directory struct {
	path string
	self *os.File // the directory itself: the lock, and what is synced
	root *os.Root // where its files are opened
	// step is called before each change of the disk; an error stops the change
	// there. Tests use it to fail or to stop dead at every step; nil in use.
	step func(action, name string) error
}

// openDirectory makes path if needed and locks it.
func openDirectory(path string) (*directory, error) {
	fail := func(err error, hint string) (*directory, error) {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open platform directory " + path, Err: err, Hint: hint}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fail(err, "")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err, "")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return fail(err, "")
	}
	self, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(err, "")
	}
	d := &directory{path: path, self: self}
	if err := d.private(); err != nil {
		return fail(errors.Join(err, self.Close()), "chmod 700 "+path+", and let its owner run the platform")
	}
	if err := d.flock(); err != nil {
		return fail(errors.Join(err, self.Close()), "stop the other platform, or use another directory")
	}
	if d.root, err = os.OpenRoot(path); err != nil {
		return fail(errors.Join(err, self.Close()), "")
	}
	if err := d.inPlace(); err != nil {
		return fail(errors.Join(err, d.close()), "")
	}
	return d, nil
}

// private refuses a directory that others own or may enter.
func (d *directory) private() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.self.Fd()), &st); err != nil {
		return err
	}
	if int64(st.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("it belongs to uid %d, this process runs as %d", st.Uid, os.Geteuid())
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("its mode is %#o: others may enter", st.Mode&0o777)
	}
	return nil
}

func (d *directory) flock() error {
	err := unix.Flock(int(d.self.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("another platform runs in it")
	}
	return err
}

// inPlace refuses when the path names another directory than the one that is
// locked: somebody moved it away, or put a copy in its place.
func (d *directory) inPlace() error {
	own, err := d.self.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(d.path)
	if err != nil {
		return err
	}
	if !os.SameFile(own, now) {
		return errors.New("the directory was replaced while the platform runs")
	}
	return nil
}

// close releases the lock.
func (d *directory) close() error {
	return errors.Join(d.root.Close(), d.self.Close())
}

// at runs the test's hook.
func (d *directory) at(action, name string) error {
	if d.step == nil {
		return nil
	}
	return d.step(action, name)
}

// exists reports whether a file is there.
func (d *directory) exists(name string) (bool, error) {
	_, err := d.root.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read returns the content of a regular file of at most max bytes.
func (d *directory) read(name string, max int) ([]byte, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > max {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, max)
	}
	return b, nil
}

// replace puts data in the place of a file, atomically and durably: after a
// crash the file has its old content or all of the new one. It syncs the file
// and the directory. When it fails, visible says whether the new content may be
// there nevertheless.
func (d *directory) replace(name string, data []byte, perm os.FileMode) (visible bool, err error) {
	temporary := name + ".new"
	if err := d.write(temporary, data, perm); err != nil {
		return false, errors.Join(err, d.remove(temporary))
	}
	return d.rename(temporary, name)
}

// write writes and syncs a file that nobody reads yet.
func (d *directory) write(name string, data []byte, perm os.FileMode) (err error) {
	if err := d.at("create", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := d.at("write", name); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := d.at("sync", name); err != nil {
		return err
	}
	return f.Sync()
}

func (d *directory) rename(from, to string) (visible bool, err error) {
	if err := d.at("rename", to); err != nil {
		return false, err
	}
	if err := d.root.Rename(from, to); err != nil {
		return false, err
	}
	return true, d.sync()
}

// remove removes a file, if it is there.
func (d *directory) remove(name string) error {
	if err := d.at("remove", name); err != nil {
		return err
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// sync makes renames and new names durable.
func (d *directory) sync() error {
	if err := d.at("sync", "."); err != nil {
		return err
	}
	return d.self.Sync()
}

// overwrite writes data into an existing file, in place and durably. A crash may
// leave any mixture of old and new bytes in that range.
func (d *directory) overwrite(name string, offset int64, data []byte) (err error) {
	if err := d.at("overwrite", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(data, offset); err != nil {
		return err
	}
	if err := d.at("sync", name); err != nil {
		return err
	}
	return unix.Fdatasync(int(f.Fd()))
}
