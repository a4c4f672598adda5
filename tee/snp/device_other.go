//go:build !linux || !amd64

package snp

import (
	"errors"

	"github.com/cloister-cc/cloister/tee"
)

// OpenDevice fails: this build runs in no guest of SEV-SNP that has such a device.
// The error is a *tee.Error with CodeUnavailable.
func OpenDevice() (*DeviceAttester, error) {
	return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open the device of SEV-SNP", Err: errors.ErrUnsupported, Hint: "run inside a guest of SEV-SNP with Linux"}
}
