//go:build linux

package software

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// counterStore keeps the counters of a platform on disk and notices when one of
// its files is put back to an older one. It is safe for concurrent use.
//
// Each change makes a new generation: the file counters (all counters, MACed,
// with the MAC of the generation before) becomes durable, then the file anchor
// (number and MAC of the newest generation). So at any time
//
//	counters.generation == anchor.generation, or
//	counters.generation == anchor.generation + 1 (the anchor is being written)
//
// and anything else means that one of the two is an old copy. A change costs
// three syncs: the new counters, the directory, the anchor in place.
type counterStore struct {
	dir *directory
	key []byte

	mu      sync.Mutex
	table   counterTable
	file    []byte // content of the file counters
	mac     [32]byte
	settled bool // false: a write failed halfway; the disk must be read again
}

// counterMACKey derives the key of the counters' MACs from the device secret.
func counterMACKey(secret []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, nil, "cloister software TEE counter MAC v1", 32)
}

// createCounters writes generation 0 of a new platform.
func createCounters(d *directory, secret []byte) error {
	key, err := counterMACKey(secret)
	if err != nil {
		return err
	}
	file, mac, err := encodeCounters(counterTable{}, key)
	if err != nil {
		return err
	}
	if _, err := d.replace(countersFile, file, 0o600); err != nil {
		return err
	}
	b := make([]byte, anchorSize)
	copy(b, anchor{0, mac}.encode(key))
	_, err = d.replace(anchorFile, b, 0o600)
	return err
}

// openCounters reads the counters and finishes a step that a crash interrupted.
func openCounters(d *directory, secret []byte) (*counterStore, error) {
	key, err := counterMACKey(secret)
	if err != nil {
		return nil, diskError(d, "open counters of", err)
	}
	s := &counterStore{dir: d, key: key}
	a, err := s.load()
	if err != nil {
		return nil, err
	}
	if err := s.settle(a); err != nil {
		return nil, err
	}
	return s, nil
}

// load reads both files into s and compares their generations.
func (s *counterStore) load() (anchor, error) {
	file, err := s.readFile(countersFile, maxCounterFile)
	if err != nil {
		return anchor{}, err
	}
	table, mac, err := parseCounters(file, s.key)
	if err != nil {
		return anchor{}, s.altered(countersFile, err)
	}
	b, err := s.readFile(anchorFile, anchorSize)
	if err != nil {
		return anchor{}, err
	}
	a, err := parseAnchor(b, s.key)
	if err != nil {
		return anchor{}, s.altered(anchorFile, err)
	}
	if err := s.compare(table, mac, a); err != nil {
		return anchor{}, err
	}
	s.table, s.file, s.mac = table, file, mac
	return a, nil
}

// compare decides whether counters and anchor belong together.
func (s *counterStore) compare(t counterTable, mac [32]byte, a anchor) error {
	switch {
	case t.generation == a.generation && mac == a.mac:
		return nil
	case a.generation != math.MaxUint64 && t.generation == a.generation+1 && t.previous == a.mac:
		return nil
	case t.generation < a.generation:
		return s.rollback(fmt.Errorf("file counters is older (generation %d) than file anchor (generation %d)", t.generation, a.generation))
	case t.generation > a.generation+1:
		return s.rollback(fmt.Errorf("file anchor is older (generation %d) than file counters (generation %d)", a.generation, t.generation))
	default:
		return s.rollback(fmt.Errorf("file counters (generation %d) and file anchor (generation %d) have different histories: one is of a copied directory", t.generation, a.generation))
	}
}

// settle makes what load found durable. What was read may only be in the page
// cache of a machine that has not crashed yet, so both files are written again,
// in the usual order.
func (s *counterStore) settle(found anchor) error {
	s.settled = false
	if _, err := s.dir.replace(countersFile, s.file, 0o600); err != nil {
		return diskError(s.dir, "recover counters of", err)
	}
	// The other slot stays what it is: it holds the generation before, or none.
	a := anchor{s.table.generation, s.mac}
	if err := s.dir.overwrite(anchorFile, a.slot(), a.encode(s.key)); err != nil {
		return diskError(s.dir, fmt.Sprintf("recover counters (generation %d after %d) of", a.generation, found.generation), err)
	}
	s.settled = true
	return nil
}

// resettle recovers, while the platform runs, from a write that failed.
func (s *counterStore) resettle() error {
	if s.settled {
		return nil
	}
	known := counterStore{table: s.table, file: s.file, mac: s.mac}
	a, err := s.load()
	if err == nil {
		same := s.mac == known.mac
		next := s.table.generation == known.table.generation+1 && s.table.previous == known.mac
		if !same && !next {
			err = s.rollback(fmt.Errorf("file counters has generation %d, this platform wrote %d", s.table.generation, known.table.generation))
		}
	}
	if err == nil {
		err = s.settle(a)
	}
	if err != nil {
		s.table, s.file, s.mac = known.table, known.file, known.mac
	}
	return err
}

// read returns a counter; one that was never advanced is zero.
func (s *counterStore) read(k counterKey) (counterValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.resettle(); err != nil {
		return counterValue{}, err
	}
	return s.table.counters[k], nil
}

// advance moves a counter from the value from to from+1. After an error that is
// not a refusal, the counter stands at one or the other; read says at which.
func (s *counterStore) advance(k counterKey, from uint64, digest [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.resettle(); err != nil {
		return err
	}
	next, err := s.next(k, from, digest)
	if err != nil {
		return err
	}
	if err := s.unchanged(); err != nil {
		return err
	}
	file, mac, err := encodeCounters(next, s.key)
	if err != nil {
		return diskError(s.dir, "encode counters of", err)
	}
	if visible, err := s.dir.replace(countersFile, file, 0o600); err != nil {
		s.settled = !visible
		return diskError(s.dir, "write counters of", err)
	}
	s.settled = false
	a := anchor{next.generation, mac}
	if err := s.dir.overwrite(anchorFile, a.slot(), a.encode(s.key)); err != nil {
		return diskError(s.dir, "write anchor of", err)
	}
	s.table, s.file, s.mac, s.settled = next, file, mac, true
	return nil
}

// next returns the table with one counter advanced.
func (s *counterStore) next(k counterKey, from uint64, digest [32]byte) (counterTable, error) {
	now, known := s.table.counters[k]
	if now.value != from || from == math.MaxUint64 {
		return counterTable{}, &tee.Error{Code: tee.CodeCounter, Op: counterOp("advance", k.name), Err: fmt.Errorf("it stands at %d, not at %d", now.value, from)}
	}
	if !known {
		if err := s.room(k); err != nil {
			return counterTable{}, &tee.Error{Code: tee.CodeUnavailable, Op: counterOp("advance", k.name), Err: err}
		}
	}
	if s.table.generation == math.MaxUint64 {
		return counterTable{}, &tee.Error{Code: tee.CodeUnavailable, Op: counterOp("advance", k.name), Err: errors.New("generations are used up")}
	}
	t := counterTable{s.table.generation + 1, s.mac, maps.Clone(s.table.counters)}
	t.counters[k] = counterValue{from + 1, digest}
	return t, nil
}

// room refuses a new counter beyond the bounds.
func (s *counterStore) room(k counterKey) error {
	if len(s.table.counters) >= MaxCounters {
		return fmt.Errorf("the platform has %d counters, the most it keeps", MaxCounters)
	}
	own := 0
	for other := range s.table.counters {
		if other.owner == k.owner {
			own++
		}
	}
	if own >= MaxCountersPerOwner {
		return fmt.Errorf("this measurement or signer has %d counters, the most it may have", MaxCountersPerOwner)
	}
	return nil
}

// unchanged compares the disk with memory before each change: while the
// platform runs, nobody else writes these files.
func (s *counterStore) unchanged() error {
	if err := s.dir.inPlace(); err != nil {
		return s.rollback(err)
	}
	file, err := s.readFile(countersFile, maxCounterFile)
	if err != nil {
		return err
	}
	if !bytes.Equal(file, s.file) {
		return s.rollback(fmt.Errorf("file counters was changed while the platform runs at generation %d", s.table.generation))
	}
	b, err := s.readFile(anchorFile, anchorSize)
	if err != nil {
		return err
	}
	if a, err := parseAnchor(b, s.key); err != nil || a != (anchor{s.table.generation, s.mac}) {
		return s.rollback(fmt.Errorf("file anchor was changed while the platform runs at generation %d", s.table.generation))
	}
	return nil
}

// readFile reads a file that must be there: without it nothing proves that the
// counters did not go back.
func (s *counterStore) readFile(name string, max int) ([]byte, error) {
	b, err := s.dir.read(name, max)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, s.rollback(fmt.Errorf("file %s is missing", name))
	case err != nil:
		return nil, diskError(s.dir, "read counters of", err)
	}
	return b, nil
}

func (s *counterStore) rollback(err error) error {
	return &tee.Error{
		Code: tee.CodeRollback, Op: "check counters of platform " + s.dir.path, Err: err,
		Hint: "stop the platform and put back the newest files counters and anchor; if they are lost, remove the directory: what this platform sealed is lost with it",
	}
}

func (s *counterStore) altered(name string, err error) error {
	return &tee.Error{
		Code: tee.CodeSealed, Op: "read file " + name + " of platform " + s.dir.path, Err: err,
		Hint: "put back the newest files counters and anchor of this platform; if they are lost, remove the directory: what this platform sealed is lost with it",
	}
}

// counterOp names what was attempted. The name comes from the instance and is
// quoted.
func counterOp(verb, name string) string { return verb + " counter " + printable(name) }
