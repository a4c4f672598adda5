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
	sealed := l.key.Seal(nil, nil, plain, position(l.count)) //nolint:gosec // the cipher makes its own random nonce
	if err := l.write(ctx, record{Batch: sealed}); err != nil {
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
