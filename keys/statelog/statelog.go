// Package statelog keeps a service's state as an append-only log in one file on
// a disk that belongs to the host: every record is encrypted under a key sealed
// to the service's own code, chained to the one before, and counted by a
// monotonic counter of the TEE that also holds the chain's digest.
//
// # What it protects against
//
// A host that reads, edits, reorders, truncates or rolls back the file, or
// offers a record that a crash left over in place of the one that was
// committed: [Open] refuses with [tee.CodeSealed] or [tee.CodeRollback]. A
// record that was cut short by a crash was never acknowledged and is dropped.
//
// # What it does not protect against
//
// Loss of the file: the log is gone, and the counter says that something is
// missing. A TEE whose counters can be rolled back with everything else (the
// software TEE, stopped, with its whole directory restored).
package statelog

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// TEE is what a log needs of the TEE it is in.
type TEE interface {
	tee.Sealer
	tee.Counters
}

// Limits of a log.
const (
	MaxRecord = 8 << 20 // bytes of one batch of entries
	maxKeyUse = 1 << 30 // batches under one key; then a new one is made
)

const magic = "cloister state log v1\n"

// record is what the file holds, one after another: a sealed key, or a batch of
// entries under the newest key.
type record struct {
	Key   []byte `cbor:"1,keyasint,omitempty"`
	Batch []byte `cbor:"2,keyasint,omitempty"` // nonce, then AES-256-GCM of a batch
}

type batch struct {
	Entries [][]byte `cbor:"1,keyasint"`
}

// Log is an open log. Its methods may be called from one goroutine at a time.
type Log struct {
	tee     TEE
	counter string
	file    *os.File
	size    int64       // end of the last good record
	head    [32]byte    // digest of the chain up to there
	count   uint64      // records
	key     cipher.AEAD // of the newest records
	uses    int
	broken  error // a failed append leaves the file in doubt
}

// Position is where an entry lies, for [Log.Read].
type Position struct {
	offset int64
	count  uint64
	key    cipher.AEAD
	index  int
}

// Open opens or makes the log in the file at path and calls replay with every
// entry, oldest first. counter names the monotonic counter; it must be used for
// nothing else.
func Open(ctx context.Context, t TEE, path, counter string, replay func(Position, []byte) error) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state log: %w", err)
	}
	l := &Log{tee: t, counter: counter, file: f}
	if err := l.load(ctx, replay); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func (l *Log) load(ctx context.Context, replay func(Position, []byte) error) error {
	value, digest, err := l.tee.ReadCounter(ctx, l.counter)
	if err != nil {
		return fmt.Errorf("open state log: %w", err)
	}
	before, err := l.scan(ctx, value, replay)
	if err != nil {
		return err
	}
	switch {
	case value == 0 && l.count == 0:
		return l.begin()
	case l.count == value && l.head == digest:
	case l.count == value+1 && before == digest && !l.goesOn(ctx):
		// The last record is durable, the counter step after it is not: finish it.
		if err := l.tee.AdvanceCounter(ctx, l.counter, value, l.head); err != nil {
			return fmt.Errorf("open state log: %w", err)
		}
	default:
		return &tee.Error{
			Code: tee.CodeRollback, Op: "open state log",
			Err:  fmt.Errorf("the file has %d records up to the TEE's counter, which stands at %d, or the counter names other contents", l.count, value),
			Hint: "the disk or the counter holds an older state than the one last committed: restore the newest copy",
		}
	}
	return l.truncate()
}

// scan reads all records, at most one past the counter, and returns the chain
// digest before the last.
func (l *Log) scan(ctx context.Context, counter uint64, replay func(Position, []byte) error) (before [32]byte, err error) {
	head := make([]byte, len(magic))
	n, err := io.ReadFull(l.file, head)
	switch {
	case n == 0:
		return before, nil
	case err == nil && string(head) == magic:
	case counter == 0 && unwritten(head[:n]):
		return before, nil // a crash before the first record
	default:
		return before, altered(errors.New("the file does not start as a state log"))
	}
	l.size = int64(len(magic))
	for l.count <= counter {
		raw, err := l.readRaw(l.size)
		if err != nil {
			return before, nil // the end, or a record cut short by a crash
		}
		entries, err := l.take(ctx, raw)
		if err != nil {
			// What lies behind the last counted record was never committed. Behind
			// nothing at all it is not ours to drop: another program's log, maybe.
			if l.count == counter && counter > 0 && errors.Is(err, &tee.Error{Code: tee.CodeSealed}) {
				return before, nil
			}
			return before, err
		}
		p := Position{offset: l.size, count: l.count, key: l.key}
		before = l.head
		l.extend(raw)
		for i, e := range entries {
			p.index = i
			if err := replay(p, e); err != nil {
				return before, fmt.Errorf("replay state log: %w", err)
			}
		}
	}
	return before, nil
}

// goesOn reports whether a good record follows. A crash leaves at most one that
// is not counted: more of them mean that the counter was set back, and what is
// in the file must not be cut off.
func (l *Log) goesOn(ctx context.Context) bool {
	raw, err := l.readRaw(l.size)
	if err != nil {
		return false
	}
	_, err = l.take(ctx, raw)
	return err == nil
}

// unwritten reports whether head is what a crash can leave of [Log.begin]: a
// file of some length whose bytes have not all reached the disk.
func unwritten(head []byte) bool {
	for i, c := range head {
		if c != 0 && c != magic[i] {
			return false
		}
	}
	return true
}

// take opens one record, and uses the key that it brings.
func (l *Log) take(ctx context.Context, raw []byte) ([][]byte, error) {
	var r record
	if err := frame.Unmarshal(raw, &r); err != nil {
		return nil, altered(err)
	}
	switch {
	case r.Key != nil && r.Batch == nil:
		key, err := seal.Unseal(ctx, l.tee, r.Key, l.keyContext())
		if err != nil {
			return nil, fmt.Errorf("open state log: %w", err)
		}
		return nil, l.use(key)
	case r.Batch != nil && r.Key == nil && l.key != nil:
		return openBatch(l.key, l.count, r.Batch)
	default:
		return nil, altered(errors.New("a record is neither key nor batch"))
	}
}

func (l *Log) extend(raw []byte) {
	l.head = chain(l.head, raw)
	l.size += 4 + int64(len(raw))
	l.count++
}

func chain(head [32]byte, raw []byte) [32]byte {
	return sha256.Sum256(append(head[:], raw...))
}

// readRaw reads the record at an offset without looking into it.
func (l *Log) readRaw(at int64) ([]byte, error) {
	var length [4]byte
	if _, err := l.file.ReadAt(length[:], at); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > MaxRecord+4096 {
		return nil, fmt.Errorf("record of %d bytes", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, io.NewSectionReader(l.file, at+4, int64(n)), int64(n)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// begin starts an empty file.
func (l *Log) begin() error {
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("start state log: %w", err)
	}
	if _, err := l.file.WriteAt([]byte(magic), 0); err != nil {
		return fmt.Errorf("start state log: %w", err)
	}
	l.size, l.count, l.head = int64(len(magic)), 0, [32]byte{}
	return nil
}

// truncate drops what lies behind the last good record.
func (l *Log) truncate() error {
	if err := l.file.Truncate(l.size); err != nil {
		return fmt.Errorf("open state log: %w", err)
	}
	l.uses = maxKeyUse // every process uses a key of its own
	return nil
}

// Append adds entries, in order. When it returns nil they are durable and
// counted: no restart will be without them. After an error the log refuses
// further appends; open it again to see what was kept.
func (l *Log) Append(ctx context.Context, entries [][]byte) ([]Position, error) {
	if l.broken != nil {
		return nil, fmt.Errorf("state log is closed after an error: %w", l.broken)
	}
	if l.key == nil || l.uses >= maxKeyUse {
		if err := l.newKey(ctx); err != nil {
			return nil, l.fail(err)
		}
	}
	plain, err := encode(batch{entries})
	if err != nil {
		return nil, fmt.Errorf("append to state log: %w", err)
	}
	if len(plain) > MaxRecord {
		return nil, fmt.Errorf("append to state log: %d entries of %d bytes, at most %d", len(entries), len(plain), MaxRecord)
	}
	p := Position{offset: l.size, count: l.count, key: l.key}
	if err := l.write(ctx, record{Batch: l.key.Seal(nil, nil, plain, position(l.count))}); err != nil {
		return nil, l.fail(err)
	}
	l.uses++
	out := make([]Position, len(entries))
	for i := range out {
		p.index = i
		out[i] = p
	}
	return out, nil
}

func (l *Log) fail(err error) error {
	l.broken = err
	return fmt.Errorf("append to state log: %w", err)
}

// write makes a record durable first and counted second: between the two a
// crash is finished by the next Open.
func (l *Log) write(ctx context.Context, r record) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(raw)), uint32(len(raw)))
	if _, err := l.file.WriteAt(append(b, raw...), l.size); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	if err := l.tee.AdvanceCounter(ctx, l.counter, l.count, chain(l.head, raw)); err != nil {
		return err
	}
	l.extend(raw)
	return nil
}

// newKey seals a fresh key to this code and appends it.
func (l *Log) newKey(ctx context.Context) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	sealed, err := seal.Seal(ctx, l.tee, tee.SealToMeasurement(), key, l.keyContext())
	if err != nil {
		return err
	}
	if err := l.write(ctx, record{Key: sealed}); err != nil {
		return err
	}
	return l.use(key)
}

func (l *Log) keyContext() []byte { return []byte("state log key of counter " + l.counter) }

func (l *Log) use(key []byte) error {
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return err
	}
	l.key, l.uses = aead, 0
	return nil
}

// Read returns the entry at a position that replay or [Log.Append] gave. It may
// be called while another goroutine appends.
func (l *Log) Read(p Position) ([]byte, error) {
	raw, err := l.readRaw(p.offset)
	if err != nil {
		return nil, altered(err)
	}
	var r record
	if err := frame.Unmarshal(raw, &r); err != nil {
		return nil, altered(err)
	}
	entries, err := openBatch(p.key, p.count, r.Batch)
	if err != nil {
		return nil, err
	}
	if p.index >= len(entries) {
		return nil, altered(errors.New("the record has fewer entries"))
	}
	return entries[p.index], nil
}

// openBatch decrypts a batch that must be record number count. Every process
// has a key of its own and never writes a number twice, so a key and a number
// name one record.
func openBatch(key cipher.AEAD, count uint64, sealed []byte) ([][]byte, error) {
	plain, err := key.Open(nil, nil, sealed, position(count))
	if err != nil {
		return nil, altered(err)
	}
	var b batch
	if err := frame.Unmarshal(plain, &b); err != nil {
		return nil, altered(err)
	}
	return b.Entries, nil
}

// position is authenticated with a batch.
func position(count uint64) []byte { return binary.BigEndian.AppendUint64(nil, count) }

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }

func altered(err error) error {
	return &tee.Error{Code: tee.CodeSealed, Op: "open state log", Err: fmt.Errorf("the file was altered: %w", err), Hint: "restore the newest copy of the data directory"}
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := frame.Write(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes()[4:], nil
}
