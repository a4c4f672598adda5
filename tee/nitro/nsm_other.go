//go:build !linux

package nitro

import (
	"errors"

	"github.com/cloister-cc/cloister/tee"
)

// Open fails: Nitro Enclaves run Linux. The error is a *tee.Error with
// CodeUnavailable.
func Open() (*Attester, error) {
	return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open NSM", Err: errors.ErrUnsupported, Hint: "run inside a Nitro Enclave"}
}
