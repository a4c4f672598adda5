package portal

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// overviewEvents is how many events the overview shows.
const overviewEvents = 12

type overviewPage struct {
	Counts   []count
	Total    int
	Ring     []arc
	InWords  string
	Events   []event
	Began    time.Time
	Proofs   []compute.Capability
	ProvenAt time.Time
	Proving  bool
}

func (p *Portal) overview(w http.ResponseWriter, r *http.Request) error {
	if list, _, _ := p.proofs.known(); list == nil {
		p.proofs.want()
	}
	list := p.cfg.Host.Instances()
	counts := countStates(list)
	b := overviewPage{
		Counts: counts, Total: len(list), Ring: ring(counts), InWords: describeCounts(counts),
		Events: p.journal.recent("", overviewEvents), Began: p.journal.began,
	}
	b.Proofs, b.ProvenAt, b.Proving = p.proofs.known()
	return p.show(w, r, "overview", frame{Title: "Overview", Section: "overview", Live: "*", Poll: int(agePoll.Milliseconds())}, b)
}

// askProofs tries again what this machine offers.
func (p *Portal) askProofs(w http.ResponseWriter, r *http.Request) error {
	p.proofs.want()
	http.Redirect(w, r, "/#offers", http.StatusSeeOther)
	return nil
}

// proveTime bounds all proofs together: one of them boots a virtual machine.
const proveTime = time.Minute

// proofs are what this machine offers, as it was last tried. Trying takes seconds
// and processor time, so it is done once somebody looks, and again on request.
type proofs struct {
	ask chan struct{}

	mu      sync.Mutex
	list    []compute.Capability
	at      time.Time
	running bool
}

func (p *proofs) known() (list []compute.Capability, at time.Time, running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list, p.at, p.running
}

// want has it tried; while it is being tried that is no second time.
func (p *proofs) want() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return
	}
	p.running = true
	p.ask <- struct{}{} // has room: only who set running sends
}

// prove tries what this machine offers whenever it is wanted, until ctx ends.
func (p *Portal) prove(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.proofs.ask:
		}
		try, cancel := context.WithTimeout(ctx, proveTime)
		list := p.cfg.Host.Capabilities(try)
		cancel()
		p.proofs.mu.Lock()
		p.proofs.list, p.proofs.at, p.proofs.running = list, p.cfg.Now(), false
		p.proofs.mu.Unlock()
		p.journal.proven()
	}
}
