package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// agileSignature opens the data of the first event of a crypto-agile log (PFP
// section 10.4.5.1, TCG_EfiSpecIdEvent).
var agileSignature = []byte("Spec ID Event03\x00")

// Parse reads the log of a TPM, in either format. Zeroes or ones after the last
// event are padding. The error is a *tee.Error: CodeParse for bytes that are no
// log and for everything beyond this package's bounds.
func Parse(b []byte) (*Log, error) { return parse(b, PCRs) }

// ParseCCEL reads the log of a TD: the memory that the ACPI table CCEL names. It
// is always crypto-agile. Errors are those of [Parse].
func ParseCCEL(b []byte) (*Log, error) { return parse(b, RTMRs) }

func parse(b []byte, registers Registers) (*Log, error) {
	if len(b) > tee.MaxEventLog {
		return nil, refuse(tee.CodeParse, fmt.Errorf("%d bytes, at most %d", len(b), tee.MaxEventLog))
	}
	l := &Log{Registers: registers, Algorithms: []Algorithm{SHA1}, sizes: []int{SHA1.Size()}}
	b = bytes.Clone(b) // once for all events, which alias it
	first := reader{b: b}
	e := first.oldEvent()
	if first.err != nil {
		return nil, refuse(tee.CodeParse, first.err)
	}
	if e.Type == TypeNoAction && bytes.HasPrefix(e.Data, agileSignature) {
		if err := l.parseHeader(e.Data); err != nil {
			return nil, refuse(tee.CodeParse, err)
		}
		b = first.b
	} else if registers == RTMRs {
		return nil, refuse(tee.CodeParse, errors.New("no crypto-agile header"))
	}
	// Twice: counting first makes the list as long as it has to be.
	n, err := l.walk(b, nil)
	if err != nil {
		return nil, refuse(tee.CodeParse, err)
	}
	l.Events = make([]Event, 0, n)
	if _, err := l.walk(b, func(e Event) { l.Events = append(l.Events, e) }); err != nil {
		return nil, refuse(tee.CodeParse, err)
	}
	return l, nil
}

// parseHeader reads the data of a TCG_EfiSpecIdEvent: 16 bytes of signature, 4 of
// platform class, 2 of version, errata, the size of an integer, then the
// algorithms with their sizes, and bytes of the vendor.
func (l *Log) parseHeader(data []byte) error {
	r := reader{b: data[len(agileSignature):]}
	r.bytes(8)
	n := r.u32()
	if r.err == nil && (n == 0 || n > MaxAlgorithms) {
		return fmt.Errorf("header has %d algorithms, at most %d", n, MaxAlgorithms)
	}
	l.Agile, l.Algorithms, l.sizes = true, nil, nil
	for range n {
		a, size := Algorithm(r.u16()), int(r.u16())
		if r.err != nil {
			break
		}
		if size < minDigest || size > maxDigest || a.Known() && size != a.Size() || slices.Contains(l.Algorithms, a) {
			return fmt.Errorf("header has %v with digests of %d bytes", a, size)
		}
		l.Algorithms, l.sizes = append(l.Algorithms, a), append(l.sizes, size)
	}
	r.bytes(int(r.u8()))
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("header has %d bytes too many", len(r.b))
	}
	return r.err
}

// walk calls f with every event and returns how many there are.
func (l *Log) walk(b []byte, f func(Event)) (int, error) {
	r := reader{b: b}
	n := 0
	for ; !padding(r.b); n++ {
		if n == MaxEvents {
			return 0, fmt.Errorf("more than %d events", MaxEvents)
		}
		e := l.event(&r)
		if r.err != nil {
			return 0, fmt.Errorf("event %d: %w", n, r.err)
		}
		if f != nil {
			f(e)
		}
	}
	return n, nil
}

// padding reports whether nothing follows but zeroes or ones. No event can look
// so: its type would be 0 or all ones, which are not used.
func padding(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != 0 && b[0] != 0xFF || len(b) >= 8 && b[4] != b[0] {
		return false
	}
	return len(bytes.TrimLeft(b, string(b[:1]))) == 0
}

func (l *Log) event(r *reader) Event {
	if !l.Agile {
		return r.oldEvent()
	}
	e := Event{Register: r.register(), Type: Type(r.u32())}
	if n := r.u32(); r.err == nil && int(n) != len(l.Algorithms) {
		r.fail(fmt.Errorf("has %d digests, and the header says %d", n, len(l.Algorithms)))
	}
	e.digests = r.digests(l)
	e.Data = r.data()
	return e
}

// digests reads one digest of each of the log's algorithms, in any order.
func (r *reader) digests(l *Log) []byte {
	all := r.b
	var seen [MaxAlgorithms]bool
	known := 0 // bytes of known algorithms, before any that is not
	for i := range l.Algorithms {
		a := Algorithm(r.u16())
		at := slices.Index(l.Algorithms, a)
		switch {
		case r.err != nil:
			return nil
		case at < 0 || seen[at]:
			r.fail(fmt.Errorf("has an unexpected digest: %v", a))
			return nil
		}
		seen[at] = true
		r.bytes(l.sizes[at])
		if a.Known() && known == i {
			known++
		} else if a.Known() {
			r.fail(errors.New("digests of algorithms that are not known stand before others"))
			return nil
		}
	}
	return all[:len(all)-len(r.b)]
}

// reader is the one reader of this package. Once something is wrong it gives
// zeroes. All numbers are little endian.
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
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) register() uint32 {
	n := r.u32()
	if n > maxRegister {
		r.fail(fmt.Errorf("register %d, at most %d", n, maxRegister))
	}
	return n
}

func (r *reader) data() []byte {
	n := r.u32()
	if n > MaxEvent {
		r.fail(fmt.Errorf("%d bytes of data, at most %d", n, MaxEvent))
	}
	return r.bytes(int(n))
}

// oldEvent reads a TCG_PCClientPCREvent (PFP section 10.2.1), which has one
// SHA-1 digest and does not name it.
func (r *reader) oldEvent() Event {
	e := Event{Register: r.register(), Type: Type(r.u32())}
	e.digests = r.bytes(SHA1.Size())
	e.Data = r.data()
	return e
}
