package portal

import (
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
)

// Bounds of the journal: events in memory, and what one listener may be behind.
const (
	maxEvents  = 1024
	maxBehind  = 32
	maxMessage = 512 // bytes
)

// stateDeleted is where an instance is after its life.
const stateDeleted compute.State = "deleted"

// event is one change of an instance, or of what this machine is known to offer
// when Name is empty.
type event struct {
	At        time.Time
	Name      string
	ID        string
	State     compute.State
	Code      string
	Message   string
	Epoch     int
	TEE       tee.Kind
	Simulated bool
	// Found says that the instance was there before the journal began.
	Found bool
}

// journal remembers what happened since this process started. It is not a record:
// those who need one keep the receipts of the node.
type journal struct {
	now   func() time.Time
	began time.Time

	mu        sync.Mutex
	events    []event // the oldest first
	last      map[string]event
	listeners map[chan event]struct{}
}

func newJournal(now func() time.Time) *journal {
	return &journal{now: now, began: now(), last: map[string]event{}, listeners: map[chan event]struct{}{}}
}

// changed notes what an instance does now, unless that is known.
func (j *journal) changed(i compute.Instance) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last, known := j.last[i.Name]
	s := i.Status
	if known && last.ID == i.ID && last.State == s.State && last.Epoch == s.Epoch && last.Code == s.Code {
		return
	}
	if len(s.Message) > maxMessage {
		s.Message = s.Message[:maxMessage] + "…"
	}
	e := event{
		At: j.now(), Name: i.Name, ID: i.ID, State: s.State, Code: s.Code, Message: s.Message, Epoch: s.Epoch,
		TEE: i.Spec.TEE, Simulated: i.Simulated, Found: !known && i.Created.Before(j.began),
	}
	if s.Since.After(j.began) && s.Since.Before(e.At) {
		e.At = s.Since
	}
	j.add(e)
	j.last[i.Name] = e
}

func (j *journal) gone(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last, known := j.last[name]
	if !known {
		return
	}
	delete(j.last, name)
	last.At, last.State, last.Code, last.Message, last.Found = j.now(), stateDeleted, "", "", false
	j.add(last)
}

// proven tells listeners that what this machine offers is known now.
func (j *journal) proven() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tell(event{At: j.now()})
}

// add keeps and tells an event. The caller holds the lock.
func (j *journal) add(e event) {
	if len(j.events) >= maxEvents {
		j.events = slices.Delete(j.events, 0, len(j.events)-maxEvents+1)
	}
	j.events = append(j.events, e)
	j.tell(e)
}

// tell drops the event for a listener that is too far behind: it looks at the
// whole page anyway when it comes to the next.
func (j *journal) tell(e event) {
	for c := range j.listeners {
		select {
		case c <- e:
		default:
		}
	}
}

// recent returns the last events, the newest first, of one instance if id names
// one.
func (j *journal) recent(id string, most int) []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []event
	for _, e := range slices.Backward(j.events) {
		if len(out) >= most {
			break
		}
		if id == "" || e.ID == id {
			out = append(out, e)
		}
	}
	return out
}

// listen returns a channel of what happens from now on, and its end.
func (j *journal) listen() (<-chan event, func()) {
	c := make(chan event, maxBehind)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.listeners[c] = struct{}{}
	return c, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.listeners, c)
	}
}
