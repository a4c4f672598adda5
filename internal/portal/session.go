package portal

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"sync"
	"time"
)

// How long a login token and a session are good, and how many there may be; the
// oldest makes room.
const (
	LoginTime   = 10 * time.Minute
	SessionTime = 12 * time.Hour
	maxLogins   = 16
	maxSessions = 32
)

// ticket is a secret that was given out. Only its digest is kept, so that no
// memory dump signs anybody in.
type ticket struct {
	digest  [32]byte
	expires time.Time
}

// tickets are secrets of one kind.
type tickets struct {
	most int
	life time.Duration

	mu   sync.Mutex
	list []ticket // the oldest first
}

// issue gives out a new secret.
func (t *tickets) issue(now time.Time) (secret string, expires time.Time) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	secret = base64.RawURLEncoding.EncodeToString(b[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) >= t.most {
		t.list = slices.Delete(t.list, 0, len(t.list)-t.most+1)
	}
	expires = now.Add(t.life)
	t.list = append(t.list, ticket{sha256.Sum256([]byte(secret)), expires})
	return secret, expires
}

// check reports whether a secret is good.
func (t *tickets) check(secret string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.find(secret, now) >= 0
}

// spend reports whether a secret is good, and ends it.
func (t *tickets) spend(secret string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.find(secret, now)
	if i < 0 {
		return false
	}
	t.list = slices.Delete(t.list, i, i+1)
	return true
}

// find compares with every ticket, in constant time each. The caller holds the
// lock.
func (t *tickets) find(secret string, now time.Time) int {
	t.list = slices.DeleteFunc(t.list, func(k ticket) bool { return !now.Before(k.expires) })
	digest := sha256.Sum256([]byte(secret))
	found := -1
	for i := range t.list {
		if subtle.ConstantTimeCompare(digest[:], t.list[i].digest[:]) == 1 {
			found = i
		}
	}
	return found
}
