package gpu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/cloister-cc/cloister/tee"
)

// Where things are in a request (DSP0274, table "GET_MEASUREMENTS request message
// format") and a response (table "MEASUREMENTS response message format"). All
// numbers are little endian.
const (
	spdm11         = 0x11
	codeRequest    = 0xE0 // GET_MEASUREMENTS
	codeResponse   = 0x60 // MEASUREMENTS
	wantsSignature = 1
	allBlocks      = 0xFF
	offNonce       = 4
	nonceSize      = 32
	requestSize    = offNonce + nonceSize + 1 // and the slot of the certificates
	responseHeader = 8                        // version, code, slot, count of blocks, length of them
	signatureSize  = 96                       // r and s on P-384, big endian
)

// Measurements (table "Measurement block format", with DMTF's specification).
const (
	blockHeader  = 4
	dmtf         = 1
	dmtfHeader   = 3 // type, size
	rawBitStream = 0x80
)

// Bounds, in bytes where nothing else is said.
const (
	maxReport       = 32 << 10
	maxBlocks       = 255
	maxMeasurement  = 64
	maxFields       = 64 // how many opaque ones
	maxText         = 64
	maxCertificates = 16
	maxCertificate  = 8 << 10
)

// Fields of the opaque data, by NVIDIA's numbers.
const (
	fieldDriver  = 3
	fieldVBIOS   = 6
	fieldChipSKU = 15
	fieldProject = 17
	fieldFWID    = 20
)

// Report is a parsed request and response. Nothing in it is true until
// [Verifier.Verify] said so. It shares memory with the bytes that it was read from.
type Report struct {
	Nonce        []byte // 32 bytes: what was asked to be signed
	Record       []byte // all measurements as they were signed
	Measurements []Measurement
	Opaque       map[uint16][]byte // NVIDIA's fields, by number

	signed    []byte
	signature []byte
}

// Measurement is one of a device.
type Measurement struct {
	Index uint8
	Type  uint8 // of DMTF: 0 ROM, 1 firmware, 2 hardware configuration, 3 firmware configuration, …
	Raw   bool  // Value is not a digest
	Value []byte
}

// ParseReport reads a request of all measurements with a signature, followed by its
// response. The error is a *tee.VerifyError with CodeParse, or CodeUnsupported for
// other versions and requests.
func ParseReport(b []byte) (*Report, error) {
	if len(b) < requestSize+responseHeader || len(b) > maxReport {
		return nil, refuse(tee.CodeParse, "report", fmt.Sprintf("%d to %d bytes", requestSize+responseHeader, maxReport), fmt.Sprintf("%d bytes", len(b)))
	}
	request, response := b[:requestSize], b[requestSize:]
	switch {
	case request[0] != spdm11 || request[1] != codeRequest || response[0] != spdm11 || response[1] != codeResponse:
		return nil, refuse(tee.CodeUnsupported, "report", "GET_MEASUREMENTS and MEASUREMENTS of SPDM 1.1", fmt.Sprintf("%x and %x", request[:2], response[:2]))
	case request[2] != wantsSignature || request[3] != allBlocks:
		return nil, refuse(tee.CodeUnsupported, "request", "all measurements, signed", fmt.Sprintf("%x", request[2:4]))
	}
	r := &reader{b: response[4:]}
	count, size := int(r.u8()), int(r.u8())|int(r.u16())<<8
	out := &Report{Nonce: request[offNonce : offNonce+nonceSize], Record: r.bytes(size)}
	out.Measurements = parseRecord(r, out.Record, count)
	r.bytes(nonceSize) // the device's own
	out.Opaque = parseOpaque(r, r.bytes(int(r.u16())))
	out.signed = b[:len(b)-len(r.b)]
	out.signature = r.bytes(signatureSize)
	if r.err == nil && len(r.b) > 0 {
		r.fail(fmt.Errorf("%d bytes follow", len(r.b)))
	}
	if r.err != nil {
		return nil, refuse(tee.CodeParse, "report", "SPDM measurements", r.err.Error())
	}
	return out, nil
}

// parseRecord reads measurements, each index once and in ascending order, so that
// there is one way to write them.
func parseRecord(outer *reader, b []byte, count int) []Measurement {
	r := &reader{b: b, err: outer.err}
	var out []Measurement
	for range count {
		index, spec, size := r.u8(), r.u8(), int(r.u16())
		kind, n := r.u8(), int(r.u16())
		m := Measurement{Index: index, Type: kind &^ rawBitStream, Raw: kind&rawBitStream != 0, Value: r.bytes(n)}
		switch {
		case r.err != nil:
		case spec != dmtf || size != n+dmtfHeader || n == 0 || n > maxMeasurement:
			r.fail(fmt.Errorf("measurement %d of form %d with %d in %d bytes", index, spec, n, size))
		case index == 0 || len(out) > 0 && index <= out[len(out)-1].Index:
			r.fail(fmt.Errorf("measurement %d is out of order", index))
		}
		out = append(out, m)
		if r.err != nil {
			break
		}
	}
	if r.err == nil && (len(r.b) > 0 || len(out) == 0) {
		r.fail(errors.New("no measurements, or bytes after them"))
	}
	if r.err != nil {
		outer.fail(r.err)
		return nil
	}
	return out
}

// parseOpaque reads NVIDIA's fields, each at most once.
func parseOpaque(outer *reader, b []byte) map[uint16][]byte {
	r := &reader{b: b, err: outer.err}
	out := make(map[uint16][]byte)
	for r.err == nil && len(r.b) > 0 {
		id := r.u16()
		v := r.bytes(int(r.u16()))
		if _, twice := out[id]; r.err == nil && (twice || len(out) == maxFields) {
			r.fail(fmt.Errorf("field %d is given twice, or more than %d", id, maxFields))
		}
		out[id] = v
	}
	if r.err != nil {
		outer.fail(r.err)
		return nil
	}
	return out
}

// scalars returns r and s of the signature.
func (r *Report) scalars() (*big.Int, *big.Int) {
	return new(big.Int).SetBytes(r.signature[:signatureSize/2]), new(big.Int).SetBytes(r.signature[signatureSize/2:])
}

// reader is the one reader of this package. Once something is wrong it gives
// zeroes.
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
	if r.err != nil || n > len(r.b) {
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
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func refuse(code tee.Code, claim, want, got string) *tee.VerifyError {
	return tee.Refuse(tee.NvidiaGPU, code, claim, want, got, "")
}
