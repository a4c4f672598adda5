package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

func (p Paths) kernelFile() string { return filepath.Join(p.Machines(), "kernel") }

// Kernel is the file of the kernel that virtual machines boot; empty means the newest
// that is installed.
func (p Paths) Kernel() (string, error) {
	b, err := os.ReadFile(p.kernelFile())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// SetKernel says which kernel virtual machines boot; their owners, which are processes
// of their own, read it.
func (p Paths) SetKernel(path string) error {
	if path != "" && !filepath.IsAbs(path) {
		return fmt.Errorf("kernel %s: want an absolute path", path)
	}
	if err := os.MkdirAll(p.Machines(), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(p.kernelFile(), []byte(path), 0o600)
}
