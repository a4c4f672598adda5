package keys

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cloister-cc/cloister/attest/record"
)

// committer appends to the log in batches: while one batch is made durable the
// next one collects, so that many releases share one sync and one counter step. The
// verdicts that receipts name are kept before the receipts are.
type committer struct {
	log  Log
	keep func([]record.Prepared) error

	mu      sync.Mutex
	pending []*commit
	busy    bool
	broken  error
}

type commit struct {
	entries  [][]byte
	verdicts []record.Prepared
	refs     []Ref
	err      error
	done     chan struct{}
}

// maxBatch bounds the entries of one batch.
const maxBatch = 4096

// enqueue fixes the place of entries in the order; wait for them afterwards.
// Entries of one call stay together.
func (c *committer) enqueue(entries [][]byte, verdicts []record.Prepared) *commit {
	m := &commit{entries: entries, verdicts: verdicts, done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		m.err = c.broken
		close(m.done)
		return m
	}
	c.pending = append(c.pending, m)
	if !c.busy {
		c.busy = true
		go c.drain()
	}
	return m
}

func (m *commit) wait() ([]Ref, error) {
	<-m.done
	return m.refs, m.err
}

// drain runs while there is something to append. After an error nothing more is
// accepted: what is in memory may be ahead of what is durable.
func (c *committer) drain() {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 || c.broken != nil {
			for _, m := range c.pending {
				m.err = c.broken
				close(m.done)
			}
			c.pending, c.busy = nil, false
			c.mu.Unlock()
			return
		}
		var batch []*commit
		var entries [][]byte
		var verdicts []record.Prepared
		for len(c.pending) > 0 && (len(batch) == 0 || len(entries)+len(c.pending[0].entries) <= maxBatch) {
			batch = append(batch, c.pending[0])
			entries = append(entries, c.pending[0].entries...)
			verdicts = append(verdicts, c.pending[0].verdicts...)
			c.pending = c.pending[1:]
		}
		c.mu.Unlock()
		refs, err := c.append(entries, verdicts)
		if err != nil {
			c.mu.Lock()
			c.broken = err
			c.mu.Unlock()
		}
		for _, m := range batch {
			if m.err = err; err == nil {
				m.refs, refs = refs[:len(m.entries)], refs[len(m.entries):]
			}
			close(m.done)
		}
	}
}

// append makes a batch durable.
func (c *committer) append(entries [][]byte, verdicts []record.Prepared) ([]Ref, error) {
	if len(verdicts) > 0 {
		if err := c.keep(verdicts); err != nil {
			return nil, fmt.Errorf("keep verdicts: %w", err)
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	refs, err := c.log.Append(entries)
	if err == nil && len(refs) != len(entries) {
		err = errors.New("the log lost entries")
	}
	return refs, err
}
