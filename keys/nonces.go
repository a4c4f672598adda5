package keys

import (
	"crypto/rand"
	"sync"
	"time"
)

// Limits of nonces. When more are outstanding, the oldest end early: that costs
// a retry, never a secret.
const (
	NonceLifetime = time.Minute
	maxNonces     = 100_000
)

// nonces gives out nonces and takes each back once.
type nonces struct {
	now func() time.Time

	mu    sync.Mutex
	given map[[NonceSize]byte]time.Time
	queue [][NonceSize]byte // oldest first
}

func newNonces(now func() time.Time) *nonces {
	return &nonces{now: now, given: map[[NonceSize]byte]time.Time{}}
}

func (n *nonces) give() ([]byte, error) {
	var v [NonceSize]byte
	if _, err := rand.Read(v[:]); err != nil {
		return nil, err
	}
	now := n.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.queue) > 0 {
		oldest := n.queue[0]
		if at, ok := n.given[oldest]; ok && len(n.queue) < maxNonces && now.Sub(at) <= NonceLifetime {
			break
		}
		delete(n.given, oldest)
		n.queue = n.queue[1:]
	}
	n.given[v] = now
	n.queue = append(n.queue, v)
	return v[:], nil
}

// take reports whether the nonce is good, and makes it useless.
func (n *nonces) take(nonce []byte) bool {
	if len(nonce) != NonceSize {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.given[[NonceSize]byte(nonce)]
	delete(n.given, [NonceSize]byte(nonce))
	age := n.now().Sub(at)
	// A clock that was set back must not make an old nonce young.
	return ok && age >= 0 && age <= NonceLifetime
}
