package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A segment is a file of records and of the evidence that they are of, or the request
// of a provider that it came in, one after the other, to which entries are only ever
// added: a million records are a few dozen files. Each entry has a header
//
//	magic "clrc", "clev" or "clrq" · length of the body, u32 little endian · its SHA-256
//
// and then its body, a record's or evidence's canonical form or a request as it came,
// so that the SHA-256 is its name. Whoever adds one writes it whole, so that only the
// end of a segment can be cut off by a crash, and nothing is ever added behind such an
// end.
const (
	segmentHeader = magicSize + 4 + sha256.Size
	magicSize     = 4
	maxEntry      = 4 << 20  // bytes of a body
	fullSegment   = 64 << 20 // bytes from which on a new one begins
	maxSegment    = 2 * fullSegment
)

// kind is what an entry is.
type kind uint8

const (
	aRecord kind = iota
	anEvidence
	aRequest
	kinds // how many there are
)

// magics are what entries begin with, by kind.
func magics() [kinds]string { return [kinds]string{"clrc", "clev", "clrq"} }

// magicStart is what all of them begin with.
const magicStart = "cl"

// entry names an entry.
type entry struct {
	kind kind
	name digest
}

// digest is the name of a record, evidence or request in bytes.
type digest [sha256.Size]byte

// TornError says that the end of a segment is no whole record: a crash cut it off
// while it was written, and whoever added it was never told that it was kept. It is
// left out; all other records are good. It is an [ErrArchive].
type TornError struct {
	File  string
	At    int64 // where it begins
	Bytes int64 // how much of it is there
}

// Error names the file and what was left out.
func (e *TornError) Error() string {
	return fmt.Sprintf("%s: %s: the last %d bytes, from %d on, are no whole record and are left out: a crash cut it off before it was acknowledged", ErrArchive, e.File, e.Bytes, e.At)
}

// Unwrap returns ErrArchive.
func (e *TornError) Unwrap() error { return ErrArchive }

// appendEntry adds an entry to the bytes of a segment.
func appendEntry(b []byte, k kind, body []byte) ([]byte, entry, error) {
	if len(body) > maxEntry {
		return b, entry{}, fmt.Errorf("%w: record, evidence or request of %d bytes, at most %d", ErrArchive, len(body), maxEntry)
	}
	e := entry{k, sha256.Sum256(body)}
	b = append(b, magics()[k]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, e.name[:]...)
	return append(b, body...), e, nil
}

// parseHeader reads a header.
func parseHeader(b []byte) (e entry, size int64, ok bool) {
	if len(b) < segmentHeader {
		return entry{}, 0, false
	}
	for k, magic := range magics() {
		if string(b[:magicSize]) == magic {
			e.kind, ok = kind(k), true
		}
	}
	copy(e.name[:], b[magicSize+4:])
	size = int64(binary.LittleEndian.Uint32(b[magicSize:]))
	return e, size, ok && size <= maxEntry
}

// scan calls visit for each whole entry of a segment, from the offset from on,
// which is where one begins, to its size. Bodies are not read, other than that of
// the last: what an entry says is compared with its name when it is read. It
// returns where the last good entry ends. The error is a *TornError, or
// [ErrArchive] when good entries follow bad bytes.
func scan(file string, f io.ReaderAt, from, size int64, visit func(e entry, at, size int64)) (int64, error) {
	header := make([]byte, segmentHeader)
	for at := from; at < size; {
		n, err := f.ReadAt(header[:min(int64(segmentHeader), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return at, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		e, length, ok := parseHeader(header[:n])
		end := at + int64(segmentHeader) + length
		if ok = ok && end <= size; ok && end == size {
			ok, err = isBody(f, at+int64(segmentHeader), length, e.name)
			if err != nil {
				return at, err
			}
		}
		if !ok {
			return at, badEnd(file, f, at, size)
		}
		visit(e, at, length)
		at = end
	}
	return size, nil
}

func isBody(f io.ReaderAt, at, size int64, name digest) (bool, error) {
	body := make([]byte, size)
	if _, err := f.ReadAt(body, at); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return sha256.Sum256(body) == name, nil
}

// badEnd tells an end that a crash cut off from bytes that somebody changed: behind
// the former there is no entry.
func badEnd(file string, f io.ReaderAt, at, size int64) error {
	if size-at <= maxSegment {
		rest := make([]byte, size-at)
		if _, err := f.ReadAt(rest, at); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if !holdsEntry(rest[1:]) {
			return &TornError{File: file, At: at, Bytes: size - at}
		}
	}
	return fmt.Errorf("%w: %s was altered at %d: whole records follow bytes that are none", ErrArchive, file, at)
}

// holdsEntry reports whether a whole entry lies anywhere in b.
func holdsEntry(b []byte) bool {
	for {
		i := bytes.Index(b, []byte(magicStart))
		if i < 0 {
			return false
		}
		b = b[i:]
		if e, size, ok := parseHeader(b); ok && int64(segmentHeader)+size <= int64(len(b)) {
			if sha256.Sum256(b[segmentHeader:int64(segmentHeader)+size]) == e.name {
				return true
			}
		}
		b = b[1:]
	}
}
