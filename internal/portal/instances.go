package portal

import (
	"net/http"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// agePoll is how often the script looks again only because times grow older.
const agePoll = 30 * time.Second

type instancesPage struct {
	List   []compute.Instance
	Counts []count
}

func (p *Portal) instances(w http.ResponseWriter, r *http.Request) error {
	list := p.cfg.Host.Instances()
	return p.show(w, r, "instances", frame{Title: "Instances", Section: "instances", Live: "*", Poll: int(agePoll.Milliseconds())}, instancesPage{list, countStates(list)})
}

// tab answers with one of the pages of an instance.
func (p *Portal) tab(w http.ResponseWriter, r *http.Request, i compute.Instance, tab, title string, poll time.Duration, body any) error {
	f := frame{Title: Visible(i.Name) + ": " + title, Section: "instances", Instance: &i, Tab: tab, Live: i.ID, Poll: int(poll.Milliseconds())}
	return p.show(w, r, tab, f, body)
}

func (p *Portal) instance(r *http.Request) (compute.Instance, error) {
	return p.cfg.Host.Instance(r.PathValue("name"))
}

// stateEvents is how many events the first page of an instance shows.
const stateEvents = 5

type statePage struct {
	Steps        []station
	LaunchDigest string
	ReadyAfter   time.Duration
	Node         bool
	Events       []event
	Open         bool // the host can read memory
	Why          string
}

func (p *Portal) state(w http.ResponseWriter, r *http.Request) error {
	i, err := p.instance(r)
	if err != nil {
		return err
	}
	b := statePage{Steps: steps(i.Status), LaunchDigest: launchDigest(i), Node: i.Name == compute.NodeName, Events: p.journal.recent(i.ID, stateEvents)}
	b.Open, b.Why = memory(i)
	if !i.Status.ReadyAt.IsZero() {
		b.ReadyAfter = i.Status.ReadyAt.Sub(i.Status.StartedAt).Round(time.Millisecond)
	}
	return p.tab(w, r, i, "state", "state", agePoll, b)
}

type eventsPage struct {
	Events   []event
	Timeline []bar
	Width    float64
	Began    time.Time
}

func (p *Portal) events(w http.ResponseWriter, r *http.Request) error {
	i, err := p.instance(r)
	if err != nil {
		return err
	}
	list := p.journal.recent(i.ID, maxEvents)
	return p.tab(w, r, i, "events", "events", 0, eventsPage{list, timeline(list, p.cfg.Now()), stripWidth, p.journal.began})
}

// logPoll is how often the script looks for new lines: no event tells of them.
const logPoll = 2 * time.Second

type logsPage struct {
	Log
	Level string
}

func (p *Portal) logs(w http.ResponseWriter, r *http.Request) error {
	i, err := p.instance(r)
	if err != nil {
		return err
	}
	log, err := p.cfg.Host.Log(i.Name)
	if err != nil {
		return err
	}
	for n := range log.Lines {
		log.Lines[n].Text = strings.TrimSuffix(log.Lines[n].Text, "\n")
	}
	return p.tab(w, r, i, "logs", "logs", logPoll, logsPage{log, string(i.Spec.Launch.Logs)})
}
