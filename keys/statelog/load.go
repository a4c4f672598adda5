package statelog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// load reads the file, decides whether it is the state that the TEE's counter
// names, and makes it ready to append to. A file that it refuses it leaves alone.
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
			return before, nil //nolint:nilerr // the end, or a record cut short by a crash
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
