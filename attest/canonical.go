package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// What names evidence and endorsements is the SHA-256 of one canonical form of
// them: a text that says what it is, and then each field preceded by its length as
// 8 bytes big endian, lists by the number of their fields. No two differ and have
// the same.
const (
	evidenceForm     = "cloister evidence v1"
	endorsementsForm = "cloister endorsements v1"
)

// DigestEvidence returns the SHA-256 that names evidence in receipts and tokens:
// that of [EncodeEvidence].
func DigestEvidence(ev tee.Evidence) [32]byte {
	h := sha256.New()
	writeEvidence(h, ev)
	return [32]byte(h.Sum(nil))
}

// EncodeEvidence returns the canonical form of evidence: its kind, data,
// certificates and event log. [DecodeEvidence] reads it.
func EncodeEvidence(ev tee.Evidence) []byte {
	var b bytes.Buffer
	writeEvidence(&b, ev)
	return b.Bytes()
}

func writeEvidence(w io.Writer, ev tee.Evidence) {
	f := fields{w}
	f.field([]byte(evidenceForm))
	f.field([]byte(ev.Kind))
	f.field(ev.Data)
	f.list(ev.Certificates)
	f.field(ev.EventLog)
}

// ErrNotCanonical means that bytes are not what [EncodeEvidence] makes.
var ErrNotCanonical = errors.New("not the canonical form of evidence")

// DecodeEvidence reads evidence in its canonical form, and nothing else. The result
// shares its memory with b. The error is an [ErrNotCanonical].
func DecodeEvidence(b []byte) (tee.Evidence, error) {
	d := fieldReader{rest: b}
	if form := d.field(); string(form) != evidenceForm {
		return tee.Evidence{}, fmt.Errorf("%w: it begins otherwise", ErrNotCanonical)
	}
	ev := tee.Evidence{Kind: tee.Kind(d.field()), Data: d.field(), Certificates: d.list(), EventLog: d.field()}
	if d.short || len(d.rest) > 0 {
		return tee.Evidence{}, fmt.Errorf("%w: it ends elsewhere", ErrNotCanonical)
	}
	return ev, nil
}

// DigestEndorsements returns the SHA-256 that names everything beside the
// evidence and the time that a verdict depends on: endorsements and roots.
func DigestEndorsements(in tee.Input) [32]byte {
	h := sha256.New()
	f := fields{h}
	f.field([]byte(endorsementsForm))
	f.list(in.Endorsements.Certificates)
	f.list(in.Endorsements.CRLs)
	f.count(len(in.Endorsements.Collateral))
	for _, name := range slices.Sorted(maps.Keys(in.Endorsements.Collateral)) {
		f.field([]byte(name))
		f.field(in.Endorsements.Collateral[name])
	}
	if in.Roots == nil {
		f.field([]byte("embedded roots"))
	} else {
		f.field([]byte("given roots"))
		f.count(len(in.Roots))
		for _, r := range in.Roots {
			f.field(r.Raw)
		}
	}
	return [32]byte(h.Sum(nil))
}

// fields writes fields to where writing does not fail, such as a hash.
type fields struct{ w io.Writer }

func (f fields) count(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = f.w.Write(b[:])
}

func (f fields) field(b []byte) {
	f.count(len(b))
	_, _ = f.w.Write(b)
}

func (f fields) list(l [][]byte) {
	f.count(len(l))
	for _, b := range l {
		f.field(b)
	}
}

// fieldReader reads fields from memory. Once something is missing, all is empty.
type fieldReader struct {
	rest  []byte
	short bool
}

// count reads a number of things that are at least size bytes each.
func (d *fieldReader) count(size int) int {
	if len(d.rest) < 8 {
		d.short = true
		return 0
	}
	n := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	if n > uint64(len(d.rest)/size) {
		d.short = true
		return 0
	}
	return int(n)
}

func (d *fieldReader) field() []byte {
	n := d.count(1)
	if d.short || n == 0 {
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *fieldReader) list() [][]byte {
	n := d.count(8)
	if n == 0 {
		return nil
	}
	l := make([][]byte, 0, n)
	for range n {
		l = append(l, d.field())
	}
	return l
}
