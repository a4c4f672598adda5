package wasm

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sysfs"
)

// mounts are the directories that a module sees. Close them after it.
type mounts struct {
	config wazero.FSConfig
	dirs   []*dir
}

// mount makes directories visible to a module.
func mount(dirs map[string]string, readOnly []string) (_ *mounts, err error) {
	m := &mounts{config: wazero.NewFSConfig()}
	defer func() {
		if err != nil {
			_ = m.Close()
		}
	}()
	for _, name := range readOnly {
		if _, ok := dirs[name]; !ok {
			return nil, fmt.Errorf("read-only directory %q is not among the directories", name)
		}
	}
	guests := make([]string, 0, len(dirs))
	for guest, host := range dirs {
		if !path.IsAbs(guest) || path.Clean(guest) != guest || !filepath.IsAbs(host) {
			return nil, fmt.Errorf("directory %q at %q: want clean absolute paths", host, guest)
		}
		guests = append(guests, guest)
	}
	slices.Sort(guests) // the order of descriptors is the same on every run
	for _, guest := range guests {
		d, err := newDir(dirs[guest], slices.Contains(readOnly, guest))
		if err != nil {
			return nil, err
		}
		m.dirs = append(m.dirs, d)
		m.config = m.config.(sysfs.FSConfig).WithSysFSMount(d, guest)
	}
	return m, nil
}

// Close implements [io.Closer].
func (m *mounts) Close() error {
	var errs []error
	for _, d := range m.dirs {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(errs...)
}
