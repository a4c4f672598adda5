package qemu

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/ulikunitz/xz"

	"github.com/cloister-cc/cloister/compute/initramfs"
	"github.com/cloister-cc/cloister/compute/machine"
)

// ownProgram is this very program, which machines run.
const ownProgram = "/proc/self/exe"

// maxProgram bounds it, in bytes.
const maxProgram = 256 << 20

// drivers are the modules that a machine needs, in the order in which they load.
func drivers() []string {
	return []string{
		"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci_modern_dev",
		"drivers/virtio/virtio_pci", "drivers/char/virtio_console",
	}
}

// initrd makes the initial RAM disk: the program, and drivers, packed with gzip, which
// every kernel unpacks. The same release packs the same bytes the same way.
func initrd(program []byte, modules string) ([]byte, error) {
	archive, err := archiveOf(program, modules)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the best saves a tenth and takes ten times as long
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(archive); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func archiveOf(program []byte, modules string) ([]byte, error) {
	const device = fs.ModeDevice | fs.ModeCharDevice
	list := []initramfs.File{
		{Path: strings.TrimPrefix(machine.Path, "/"), Mode: 0o755, Data: program},
		{Path: "dev/console", Mode: device | 0o600, Major: 5, Minor: 1},
		{Path: "dev/null", Mode: device | 0o666, Major: 1, Minor: 3}, // a program of Go opens it before it runs
	}
	for _, dir := range machine.Directories() {
		if dir != "dev" {
			list = append(list, initramfs.File{Path: dir, Mode: fs.ModeDir | 0o755})
		}
	}
	n := 0
	for _, name := range drivers() {
		module, err := readModule(filepath.Join(modules, "kernel", name))
		if errors.Is(err, fs.ErrNotExist) && builtin(modules, name) {
			continue
		}
		if err != nil {
			return nil, err
		}
		n++
		list = append(list, initramfs.File{
			Path: fmt.Sprintf("%s/%02d-%s.ko", strings.TrimPrefix(machine.ModulesDir, "/"), n, filepath.Base(name)), Mode: 0o644, Data: module,
		})
	}
	if n == 0 {
		list = append(list, initramfs.File{Path: strings.TrimPrefix(machine.ModulesDir, "/"), Mode: fs.ModeDir | 0o755})
	}
	return initramfs.Build(list)
}

// builtin reports whether a kernel has a driver in it.
func builtin(modules, name string) bool {
	b, err := readBounded(filepath.Join(modules, "modules.builtin"), maxModule)
	return err == nil && bytes.Contains(b, []byte("kernel/"+name+".ko\n"))
}

// readModule reads a module, packed or not.
func readModule(path string) ([]byte, error) {
	b, err := readBounded(path+".ko", maxModule)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	packed, packedErr := readBounded(path+".ko.xz", maxModule)
	if packedErr != nil {
		return nil, err
	}
	r, err := xz.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack %s.ko.xz: %w", path, err)
	}
	b, err = io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && len(b) > maxModule {
		err = fmt.Errorf("more than %d bytes", maxModule)
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s.ko.xz: %w", path, err)
	}
	return b, nil
}

// checkStatic refuses a build of this program that needs libraries: where it is to run
// there are none.
func checkStatic(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	defer func() { _ = f.Close() }()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("%w: a static build of this program, which is what machines run; build it with CGO_ENABLED=0", ErrMissing)
	}
	return nil
}

// ramDisk makes the initial RAM disk of this release, and keeps it in the cache, where
// owners of machines find it.
func (d *Driver) ramDisk(f files) ([]byte, error) {
	program, err := readBounded(ownProgram, maxProgram)
	if err != nil {
		return nil, err
	}
	b, err := initrd(program, f.modules)
	if err != nil {
		return nil, err
	}
	if d.cfg.Cache == "" {
		return b, nil
	}
	path, err := d.ramDiskFile(f)
	if err != nil {
		return nil, err
	}
	if kept, err := os.ReadFile(path); err == nil && bytes.Equal(kept, b) {
		return b, nil
	}
	if err := os.MkdirAll(d.cfg.Cache, 0o700); err != nil {
		return nil, fmt.Errorf("store initial RAM disk: %w", err)
	}
	if err := renameio.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("store initial RAM disk: %w", err)
	}
	return b, nil
}

// ramDiskFile is where the initial RAM disk of this release is kept: under the digest
// of what it is made of, which costs less than to make it.
func (d *Driver) ramDiskFile(f files) (string, error) {
	h := sha256.New()
	program, err := os.Open(ownProgram)
	if err != nil {
		return "", err
	}
	defer func() { _ = program.Close() }()
	if _, err := io.Copy(h, program); err != nil {
		return "", err
	}
	for _, name := range drivers() {
		module, err := readModule(filepath.Join(f.modules, "kernel", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		digest := sha256.Sum256(module)
		h.Write(digest[:])
	}
	return filepath.Join(d.cfg.Cache, "initrd-"+hex.EncodeToString(h.Sum(nil)[:16])), nil
}
