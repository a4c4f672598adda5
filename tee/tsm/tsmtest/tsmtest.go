// Package tsmtest is a configfs-tsm of its own for tests of attesters. It keeps
// the kernel's rules (Documentation/ABI/testing/configfs-tsm-report): an entry
// has its attributes from when it was made, a report data of 1 to 64 bytes has
// to be written before a report can be read, each write makes a new generation,
// and a provider without auxiliary data has no auxblob.
//
// It protects nothing and is for tests only.
package tsmtest

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"sync"
	"syscall"

	"github.com/cloister-cc/cloister/tee/tsm"
)

// Kernel is a fake; set the exported fields before use. It is safe for
// concurrent use.
type Kernel struct {
	// Provider is what the kernel names the TEE.
	Provider string
	// Report makes the report over report data.
	Report func(reportData []byte) ([]byte, error)
	// Auxiliary makes the auxiliary blob; nil: the provider has none.
	Auxiliary func() []byte
	// Interfere writes to every entry once more after its user did.
	Interfere bool

	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	in         []byte
	generation int
}

// Entries is how many entries exist: a client that leaves one behind leaks.
func (k *Kernel) Entries() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.entries)
}

// Mkdir implements [tsm.Files].
func (k *Kernel) Mkdir(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Provider == "" {
		return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENXIO}
	}
	if k.entries == nil {
		k.entries = map[string]*entry{}
	}
	if k.entries[name] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	k.entries[name] = &entry{}
	return nil
}

// Write implements [tsm.Files].
func (k *Kernel) Write(name string, b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[path.Dir(name)]
	switch {
	case e == nil || path.Base(name) != "inblob":
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case len(b) == 0 || len(b) > 64:
		return &fs.PathError{Op: "write", Path: name, Err: syscall.EINVAL}
	}
	e.in = append([]byte(nil), b...)
	e.generation++
	if k.Interfere {
		e.in[0]++
		e.generation++
	}
	return nil
}

// Read implements [tsm.Files].
func (k *Kernel) Read(name string, limit int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[path.Dir(name)]
	if e == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	b, err := k.attribute(e, name)
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}

func (k *Kernel) attribute(e *entry, name string) ([]byte, error) {
	switch path.Base(name) {
	case "provider":
		return []byte(k.Provider + "\n"), nil
	case "generation":
		return []byte(strconv.Itoa(e.generation) + "\n"), nil
	case "outblob":
		if e.generation == 0 {
			return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EINVAL}
		}
		return k.Report(e.in)
	case "auxblob":
		if k.Auxiliary != nil {
			return k.Auxiliary(), nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Remove implements [tsm.Files].
func (k *Kernel) Remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries[name] == nil {
		return &fs.PathError{Op: "rmdir", Path: name, Err: fs.ErrNotExist}
	}
	delete(k.entries, name)
	return nil
}

// Interface guard.
var _ tsm.Files = (*Kernel)(nil)
