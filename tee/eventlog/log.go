package eventlog

import (
	"bytes"
	"encoding/binary"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds on what comes from outside.
const (
	// MaxEvents is how many events a log may have. Real ones have below 200.
	MaxEvents = 4096
	// MaxEvent is the largest data of one event, in bytes. The largest real ones
	// are lists of revoked boot loaders, below 32 KiB.
	MaxEvent = 128 << 10
	// MaxAlgorithms is how many digests an event may have.
	MaxAlgorithms = 8

	minDigest   = 20 // bytes, as SHA-1 has
	maxDigest   = 64
	maxRegister = 23 // the highest PCR of a PC, and more than a TD has
)

// Type says what an event is about (PFP section 10.4.1). No digest covers it.
type Type uint32

// The types that this package knows by name.
const (
	TypeNoAction        Type = 0x00000003
	TypeSeparator       Type = 0x00000004
	TypeCRTMVersion     Type = 0x00000008
	TypeIPL             Type = 0x0000000D
	TypeNonHostInfo     Type = 0x00000011
	TypeVariableConfig  Type = 0x80000001
	TypeBootApplication Type = 0x80000003
	TypeAction          Type = 0x80000007
)

// Registers says which registers a log is about.
type Registers uint8

// The kinds of registers.
const (
	PCRs  Registers = iota + 1 // of a TPM, by index
	RTMRs                      // of a TD: 0 is MRTD, 1 to 4 are RTMR0 to RTMR3
)

// Log is a parsed event log. Nothing in it is true until [Log.Verify] said so.
// It does not alias the parsed bytes.
type Log struct {
	Registers Registers
	// Agile is whether it is in the crypto-agile format, with a digest per
	// algorithm, and not in the old one.
	Agile bool
	// Algorithms are those that every event has a digest of, in the log's order.
	// They may include some that are not known here.
	Algorithms []Algorithm
	// Events are all events but the header.
	Events []Event

	sizes []int // of the digests of Algorithms
}

// Event is one entry.
type Event struct {
	Register uint32
	Type     Type
	Data     []byte

	// A bare SHA-1 digest in the old format; else TPMT_HA after each other, which
	// are longer: algorithm, little endian, and digest.
	digests []byte
}

// Digest returns the event's digest of an algorithm, nil when it has none.
func (e *Event) Digest(a Algorithm) []byte {
	if len(e.digests) == SHA1.Size() {
		if a == SHA1 {
			return e.digests
		}
		return nil
	}
	for b, n := e.digests, 0; len(b) >= 2; b = b[n:] {
		id := Algorithm(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if n = id.Size(); n == 0 || n > len(b) {
			// Digests of algorithms that are not known stand last: see parse.
			return nil
		}
		if id == a {
			return b[:n:n]
		}
	}
	return nil
}

// Covered reports whether the event's digest is the one of its data, so that a
// register that has the digest proves the data.
func (e *Event) Covered(a Algorithm) bool {
	d := e.Digest(a)
	return d != nil && bytes.Equal(d, a.Sum(e.Data))
}

// NewEvent returns an event for a log of the given algorithms that measures
// something: mostly its data, for some types (a boot loader, a file) bytes that
// the log does not carry. Algorithms that are not known are left out.
func NewEvent(register uint32, t Type, data, measured []byte, algorithms ...Algorithm) Event {
	e := Event{Register: register, Type: t, Data: bytes.Clone(data)}
	for _, a := range algorithms {
		if !a.Known() {
			continue
		}
		e.digests = binary.LittleEndian.AppendUint16(e.digests, uint16(a))
		if t == TypeNoAction {
			e.digests = append(e.digests, make([]byte, a.Size())...)
			continue
		}
		e.digests = append(e.digests, a.Sum(measured)...)
	}
	return e
}

// refuse is the error of everything in this package that reads bytes.
func refuse(code tee.Code, cause error) error {
	return &tee.Error{Code: code, Op: "read event log", Err: cause}
}
