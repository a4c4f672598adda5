package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A segment is a file of records, one after the other, to which records are only
// ever added: a million of them are a few dozen files. Each record has a header
//
//	magic "clrc" · length of the record, u32 little endian · its SHA-256, which is its name
//
// and then its canonical form. Whoever adds one writes it whole, so that only the
// end of a segment can be cut off by a crash, and nothing is ever added behind such
// an end.
const (
	segmentMagic  = "clrc"
	segmentHeader = len(segmentMagic) + 4 + sha256.Size
	maxRecord     = 4 << 20  // bytes
	fullSegment   = 64 << 20 // bytes from which on a new one begins
	maxSegment    = 2 * fullSegment
)

// digest is a record's name in bytes.
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

// appendEntry adds a record to the bytes of a segment.
func appendEntry(b, body []byte) ([]byte, digest, error) {
	if len(body) > maxRecord {
		return b, digest{}, fmt.Errorf("%w: record of %d bytes, at most %d", ErrArchive, len(body), maxRecord)
	}
	name := digest(sha256.Sum256(body))
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, name[:]...)
	return append(b, body...), name, nil
}

// parseHeader reads a header.
func parseHeader(b []byte) (name digest, size int64, ok bool) {
	if len(b) < segmentHeader || string(b[:4]) != segmentMagic {
		return digest{}, 0, false
	}
	copy(name[:], b[8:])
	size = int64(binary.LittleEndian.Uint32(b[4:]))
	return name, size, size <= maxRecord
}

// scan calls visit for each whole record of a segment, from the offset from on,
// which is where one begins, to its size. Bodies are not read, other than that of
// the last: what a record says is compared with its name when it is read. It
// returns where the last good record ends. The error is a *TornError, or
// [ErrArchive] when good records follow bad bytes.
func scan(file string, f io.ReaderAt, from, size int64, visit func(name digest, at, size int64)) (int64, error) {
	header := make([]byte, segmentHeader)
	for at := from; at < size; {
		n, err := f.ReadAt(header[:min(int64(segmentHeader), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return at, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		name, length, ok := parseHeader(header[:n])
		end := at + int64(segmentHeader) + length
		if ok = ok && end <= size; ok && end == size {
			ok, err = isBody(f, at+int64(segmentHeader), length, name)
			if err != nil {
				return at, err
			}
		}
		if !ok {
			return at, badEnd(file, f, at, size)
		}
		visit(name, at, length)
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
// the former there is no record.
func badEnd(file string, f io.ReaderAt, at, size int64) error {
	if size-at <= maxSegment {
		rest := make([]byte, size-at)
		if _, err := f.ReadAt(rest, at); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if !holdsRecord(rest[1:]) {
			return &TornError{File: file, At: at, Bytes: size - at}
		}
	}
	return fmt.Errorf("%w: %s was altered at %d: whole records follow bytes that are none", ErrArchive, file, at)
}

// holdsRecord reports whether a whole record lies anywhere in b.
func holdsRecord(b []byte) bool {
	for {
		i := bytes.Index(b, []byte(segmentMagic))
		if i < 0 {
			return false
		}
		b = b[i:]
		if name, size, ok := parseHeader(b); ok && int64(segmentHeader)+size <= int64(len(b)) {
			if sha256.Sum256(b[segmentHeader:int64(segmentHeader)+size]) == name {
				return true
			}
		}
		b = b[1:]
	}
}
