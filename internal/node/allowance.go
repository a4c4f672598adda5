package node

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest/record"
)

// What records of refusals may add to the disk: whoever reaches the node can have
// evidence refused as often as they like.
const (
	refusalsAtOnce = 64 << 20  // bytes
	refusalsPerDay = 256 << 20 // bytes
)

// allowance is what refusals may still add. The zero value is a full one. It is safe
// for concurrent use.
type allowance struct {
	mu     sync.Mutex
	used   float64   // bytes
	since  time.Time // of used
	missed int
}

// take takes size bytes, if they are there, and then says how many refusals were
// missed before.
func (a *allowance) take(size int64, now time.Time) (missed int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if past := now.Sub(a.since); past > 0 {
		a.used = max(0, a.used-past.Hours()/24*refusalsPerDay)
		a.since = now
	}
	if a.used+float64(size) > refusalsAtOnce {
		a.missed++
		return 0, false
	}
	a.used += float64(size)
	missed, a.missed = a.missed, 0
	return missed, true
}

// miss counts a refusal that could not be kept for another reason.
func (a *allowance) miss() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed++
}

// recordSize is about what a record has beside its evidence and policy, in bytes, and
// what the least file takes on a disk.
const recordSize = 4 << 10

// sizeOf is about what keeping a case adds to the disk.
func sizeOf(c record.Case) int64 {
	size := 2*recordSize + len(c.Evidence.Data) + len(c.Evidence.EventLog)
	for _, b := range c.Evidence.Certificates {
		size += len(b)
	}
	if c.Provider != nil {
		size += len(c.Provider.Policy) + len(c.Provider.Request)
	}
	if b, err := json.Marshal(c.Policy); err == nil {
		size += len(b)
	}
	return int64(size)
}
