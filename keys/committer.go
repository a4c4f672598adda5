package keys

import (
	"errors"
	"sync"
)

// committer appends to the log in batches: while one batch is made durable the
// next one collects, so that many releases share one sync and one counter step.
type committer struct {
	log Log

	mu      sync.Mutex
	pending []*commit
	busy    bool
	broken  error
}

type commit struct {
	entries [][]byte
	refs    []Ref
	err     error
	done    chan struct{}
}

// maxBatch bounds the entries of one batch.
const maxBatch = 4096

// enqueue fixes the place of entries in the order; wait for them afterwards.
// Entries of one call stay together.
func (c *committer) enqueue(entries [][]byte) *commit {
	m := &commit{entries: entries, done: make(chan struct{})}
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
		for len(c.pending) > 0 && (len(batch) == 0 || len(entries)+len(c.pending[0].entries) <= maxBatch) {
			batch = append(batch, c.pending[0])
			entries = append(entries, c.pending[0].entries...)
			c.pending = c.pending[1:]
		}
		c.mu.Unlock()
		refs, err := c.log.Append(entries)
		if err == nil && len(refs) != len(entries) {
			err = errors.New("the log lost entries")
		}
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
