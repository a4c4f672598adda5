//go:build !linux || !amd64

package tdx

import (
	"errors"

	"github.com/cloister-cc/cloister/tee"
)

// OpenDevice fails: this build runs in no TD that has such a device. The error is
// a *tee.Error with CodeUnavailable.
func OpenDevice() (*DeviceAttester, error) {
	return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open the device of TDX", Err: errors.ErrUnsupported, Hint: "run inside a TD with Linux"}
}
