// Package initramfs writes the archive that Linux unpacks as its first file system
// (cpio in the "newc" form; Linux, Documentation/driver-api/early-userspace/
// buffer-format.rst). The same files give the same bytes, whatever machine and day it
// is: the archive is measured when a guest boots, so who knows the files knows the
// measurement.
//
// # What it protects against
//
// Measurements that only the builder can have: order, modes, owners and times of the
// archive come from this package and the list of files, and from nothing else.
//
// # What it does not protect against
//
// Files that are not what they should be.
package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bounds of an archive.
const (
	MaxFiles = 4096
	MaxSize  = 1 << 30 // bytes
	maxPath  = 1024
)

// ErrFile means that a file cannot be in an archive: it is wrapped with what is wrong.
var ErrFile = errors.New("initial RAM file system")

// File is a file of an archive. Directories above it are made.
type File struct {
	// Path is relative and clean, with slashes: "init", "lib/modules/virtio.ko".
	Path string
	// Mode has permissions, and is that of a regular file, of a directory
	// (fs.ModeDir), a symbolic link (fs.ModeSymlink), or a character device
	// (fs.ModeDevice|fs.ModeCharDevice).
	Mode fs.FileMode
	// Data is what a regular file holds, or where a link leads.
	Data []byte
	// Major and Minor number a device.
	Major, Minor uint32
}

// Types of files in an archive (cpio(5)).
const (
	typeCharacter = 0o020000
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeLink      = 0o120000
)

// Build returns the archive of some files, which belong to root and are of 1970. The
// error is an [ErrFile].
func Build(files []File) ([]byte, error) {
	all, err := complete(files)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for i, f := range all {
		if err := add(&b, i+1, f); err != nil {
			return nil, err
		}
		if b.Len() > MaxSize {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrFile, MaxSize)
		}
	}
	write(&b, header{links: 1}, "TRAILER!!!", nil)
	return b.Bytes(), nil
}

// complete adds the directories above files, and sorts: those come first.
func complete(files []File) ([]File, error) {
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("%w: %d files, at most %d", ErrFile, len(files), MaxFiles)
	}
	seen := map[string]File{}
	for _, f := range files {
		if f.Path == "" || len(f.Path) > maxPath || f.Path == "." || path.Clean("/"+f.Path) != "/"+f.Path || strings.ContainsRune(f.Path, 0) {
			return nil, fmt.Errorf("%w: path %.64q: want a clean relative one", ErrFile, f.Path)
		}
		if _, twice := seen[f.Path]; twice {
			return nil, fmt.Errorf("%w: %s twice", ErrFile, f.Path)
		}
		seen[f.Path] = f
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if above, there := seen[dir]; !there {
				seen[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			} else if !above.Mode.IsDir() {
				return nil, fmt.Errorf("%w: %s lies in %s, which is no directory", ErrFile, f.Path, dir)
			}
		}
	}
	all := make([]File, 0, len(seen))
	for _, f := range seen {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// header is what an entry says beside its name and data. Owners and times are zero.
type header struct {
	inode, mode, links int
	major, minor       uint32
}

// add adds a file to the archive.
func add(b *bytes.Buffer, inode int, f File) error {
	h := header{inode: inode, mode: int(f.Mode.Perm()), links: 1}
	switch f.Mode.Type() {
	case 0:
		h.mode |= typeRegular
	case fs.ModeDir:
		h.mode, h.links = h.mode|typeDirectory, 2
	case fs.ModeSymlink:
		h.mode |= typeLink
	case fs.ModeDevice | fs.ModeCharDevice:
		h.mode |= typeCharacter
		h.major, h.minor = f.Major, f.Minor
	default:
		return fmt.Errorf("%w: %s is of the type %v, which no archive has here", ErrFile, f.Path, f.Mode.Type())
	}
	holds, device := f.Mode.IsRegular() || f.Mode.Type() == fs.ModeSymlink, h.mode&^0o7777 == typeCharacter
	if f.Mode != f.Mode.Type()|f.Mode.Perm() || !holds && len(f.Data) > 0 || !device && (f.Major|f.Minor) != 0 {
		return fmt.Errorf("%w: %s has what its type does not have", ErrFile, f.Path)
	}
	write(b, h, f.Path, f.Data)
	return nil
}

// write adds an entry: a header of hexadecimal numbers, the name and the data, each
// filled up to 4 bytes.
func write(b *bytes.Buffer, h header, name string, data []byte) {
	fill := func() { b.Write(make([]byte, -b.Len()&3)) }
	fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", h.inode, h.mode, 0, 0, h.links, 0, len(data), 0, 0, h.major, h.minor, len(name)+1, 0)
	b.WriteString(name)
	b.WriteByte(0)
	fill()
	b.Write(data)
	fill()
}
