package nitro

import (
	"crypto/sha256"
	"slices"
	"sync"
)

// digest names what is remembered: the SHA-256 of everything that it was made
// from.
type digest [sha256.Size]byte

// memo remembers the results of a pure function by the digest of its arguments,
// the newest of them, as many as put says. The zero value is empty. It is safe for concurrent use.
type memo[T any] struct {
	mu      sync.Mutex
	results map[digest]T
	order   []digest // oldest first
}

func (m *memo[T]) get(id digest) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.results[id]
	return r, ok
}

func (m *memo[T]) put(id digest, r T, limit int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.results == nil {
		m.results = make(map[digest]T)
	}
	if _, known := m.results[id]; !known {
		if len(m.order) >= limit {
			delete(m.results, m.order[0])
			m.order = slices.Delete(m.order, 0, 1)
		}
		m.order = append(m.order, id)
	}
	m.results[id] = r
}

// digestOf is the digest of a digest and bytes. As the first has a fixed size, no
// two pairs collide.
func digestOf(prefix digest, last []byte) digest {
	h := sha256.New()
	h.Write(prefix[:])
	h.Write(last)
	var sum digest
	h.Sum(sum[:0])
	return sum
}
