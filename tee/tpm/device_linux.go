//go:build linux

package tpm

import (
	"os"

	"golang.org/x/sys/unix"
)

// openDevice opens a TPM for reads that wait. os.Open would make the device
// non-blocking to watch it, and a TPM's driver then takes commands in the
// background and gives nothing to who reads too early.
func openDevice(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
