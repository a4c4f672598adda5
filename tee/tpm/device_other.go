//go:build !linux

package tpm

import (
	"errors"
	"os"
)

// openDevice fails: other systems have no such file. An attester on another way to
// the TPM is made with NewAttester.
func openDevice(path string) (*os.File, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: errors.ErrUnsupported}
}
