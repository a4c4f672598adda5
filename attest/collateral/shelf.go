package collateral

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/sgx"
)

// maxPlatforms bounds what a shelf remembers of platforms.
const maxPlatforms = 4096

// Shelf keeps collateral in memory for a service that cannot fetch, and remembers
// for which platforms it was asked in vain. The zero value is empty and ready. It
// is safe for concurrent use.
type Shelf struct {
	mu     sync.RWMutex
	items  map[string]Item        // the newest of each thing
	ready  map[Platform]ready     // made of items
	names  map[[32]byte]Platform  // by the certification of quotes, which is slow to read
	asked  map[Platform]time.Time // not found; when it was last asked for
	signal chan struct{}          // closed when asked grows
}

// ready is what there is for a platform: whether that is everything, and until when
// all of it is current.
type ready struct {
	endorsements tee.Endorsements
	complete     bool
	until        time.Time
}

// Add puts items on the shelf; of versions of one thing the newest stays. On an
// error none is added.
func (s *Shelf) Add(items ...Item) error {
	for _, i := range items {
		if err := i.check(); err != nil {
			return fmt.Errorf("collateral: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(slices.Collect(maps.Values(s.items)), items...)
	best := newest(all)
	if len(best) > MaxItems {
		return fmt.Errorf("collateral: %d items, at most %d", len(best), MaxItems)
	}
	s.items = make(map[string]Item, len(best))
	for _, i := range best {
		s.items[i.key()] = i
	}
	s.ready = nil
	return nil
}

// For is as [Store.For]. What is not there, or not current at the time at, is
// remembered for [Shelf.Wanted].
func (s *Shelf) For(ev tee.Evidence, at time.Time) (tee.Endorsements, error) {
	p, ok := s.platform(ev)
	if !ok {
		return tee.Endorsements{}, nil
	}
	s.mu.RLock()
	r, known := s.ready[p]
	s.mu.RUnlock()
	if known && r.complete && !at.After(r.until) {
		return r.endorsements, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, known = s.ready[p]; !known {
		var err error
		if r, err = s.prepare(p); err != nil {
			return tee.Endorsements{}, err
		}
	}
	if !r.complete || at.After(r.until) {
		s.ask(p, at)
	}
	return r.endorsements, nil
}

// prepare takes together what there is for a platform.
func (s *Shelf) prepare(p Platform) (r ready, err error) {
	items := slices.Collect(maps.Values(s.items))
	if r.endorsements, err = endorse(p, items); err != nil {
		return r, err
	}
	r.complete, r.until = p.complete(items), p.until(items)
	if s.ready == nil || len(s.ready) >= maxPlatforms {
		s.ready = map[Platform]ready{}
	}
	s.ready[p] = r
	return r, nil
}

// platform is as [PlatformOf], faster for platforms that it has seen.
func (s *Shelf) platform(ev tee.Evidence) (Platform, bool) {
	q, err := dcap.ParseQuote(sgx.Quote(ev.Data))
	if err != nil {
		return PlatformOf(ev)
	}
	id := sha256.Sum256(append([]byte(q.Kind), q.Certification()...))
	s.mu.RLock()
	p, known := s.names[id]
	s.mu.RUnlock()
	if known {
		return p, true
	}
	p, ok := platformOfQuote(q)
	if !ok {
		return Platform{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil || len(s.names) >= maxPlatforms {
		s.names = map[[32]byte]Platform{}
	}
	s.names[id] = p
	return p, true
}

func (s *Shelf) ask(p Platform, at time.Time) {
	if s.asked == nil || len(s.asked) >= maxPlatforms {
		s.asked = map[Platform]time.Time{}
	}
	_, again := s.asked[p]
	s.asked[p] = at
	if !again && s.signal != nil {
		close(s.signal)
		s.signal = nil
	}
}

// Wanted returns the platforms that were asked for in vain, and forgets them: who
// fetches for them and fails is told again when somebody asks again. It waits
// until there is one, or ctx ends.
func (s *Shelf) Wanted(ctx context.Context) []Platform {
	for {
		s.mu.Lock()
		if len(s.asked) > 0 {
			out := slices.SortedFunc(maps.Keys(s.asked), func(a, b Platform) int { return slices.Compare([]byte(a.String()), []byte(b.String())) })
			s.asked = nil
			s.mu.Unlock()
			return out
		}
		if s.signal == nil {
			s.signal = make(chan struct{})
		}
		signal := s.signal
		s.mu.Unlock()
		select {
		case <-signal:
		case <-ctx.Done():
			return nil
		}
	}
}
