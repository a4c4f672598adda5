// Package keystest is an in-memory log for tests of programs that keep keys.
//
// It protects nothing: it keeps key material in plain memory, and what it calls
// durable ends with the process.
package keystest

import (
	"errors"
	"slices"
	"sync"

	"github.com/cloister-cc/cloister/keys"
)

// Log is a [keys.Log] in memory that a test can make slow or make fail. The zero
// value is an empty log. It is safe for concurrent use.
type Log struct {
	appending sync.Mutex // held while Append waits

	mu      sync.Mutex
	entries [][]byte
	batches int
	err     error
	held    chan struct{}
}

// Append implements [keys.Log].
func (l *Log) Append(entries [][]byte) ([]keys.Ref, error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held != nil {
		<-held
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	refs := make([]keys.Ref, len(entries))
	for i, e := range entries {
		refs[i] = len(l.entries)
		l.entries = append(l.entries, slices.Clone(e))
	}
	l.batches++
	return refs, nil
}

// Read implements [keys.Log].
func (l *Log) Read(r keys.Ref) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := r.(int)
	if !ok || i < 0 || i >= len(l.entries) {
		return nil, errors.New("read test log: no such entry")
	}
	return slices.Clone(l.entries[i]), nil
}

// Fail makes every further Append return err; nil ends that.
func (l *Log) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// Hold makes Append wait until release is called.
func (l *Log) Hold() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.held = held
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = nil
		close(held)
	}
}

// Batches returns how many times Append succeeded.
func (l *Log) Batches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batches
}

// Entries returns copies of all entries, oldest first.
func (l *Log) Entries() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([][]byte, len(l.entries))
	for i, e := range l.entries {
		out[i] = slices.Clone(e)
	}
	return out
}

// Open replays the log into a service and begins it, as after a restart.
func (l *Log) Open(s *keys.Service) error {
	for i, e := range l.Entries() {
		if err := s.Replay(i, e); err != nil {
			return err
		}
	}
	s.Begin(l)
	return nil
}

var _ keys.Log = (*Log)(nil)
