package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// reader is the one reader of TPM structures. Once something is wrong it gives
// zeroes. All numbers are big endian (part 1, section "Canonicalization").
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.fail(errors.New("truncated"))
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8 {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// sized reads a TPM2B of at most limit bytes.
func (r *reader) sized(limit int) []byte {
	n := int(r.u16())
	if n > limit {
		r.fail(fmt.Errorf("a field of %d bytes, at most %d", n, limit))
	}
	return r.bytes(n)
}

// end wants nothing to follow.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail(fmt.Errorf("%d bytes follow", len(r.b)))
	}
	return r.err
}

// sized appends a TPM2B.
func sized(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

// malformed is the error for a structure that cannot be read.
func malformed(claim, want string, cause error) error {
	return tee.Refuse(tee.TPM, tee.CodeParse, claim, want, fmt.Sprintf("%.200s", cause.Error()), "")
}

func unsupported(claim, want, got string) error {
	return tee.Refuse(tee.TPM, tee.CodeUnsupported, claim, want, got, "")
}

// Failures returns the failures of an error of this package.
func Failures(err error) []tee.Failure {
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		return e.Failures
	}
	return []tee.Failure{{Code: tee.CodeParse, Claim: "evidence", Got: fmt.Sprintf("%.200s", err.Error())}}
}
