package portal

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

func secondsOf(n int) time.Duration { return time.Duration(n) * time.Second }

func TestJournal(t *testing.T) {
	c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	j := newJournal(c.time)
	events, end := j.listen()
	defer end()
	old := worker(compute.Running)
	j.changed(old)
	j.changed(old) // nothing new
	fresh := worker(compute.Pending)
	fresh.Name, fresh.ID, fresh.Created = "fresh", "f", c.time().Add(time.Second)
	c.add(2 * time.Second)
	j.changed(fresh)
	for _, s := range []compute.State{compute.Preparing, compute.Attesting, compute.Failed} {
		c.add(time.Second)
		fresh.Status.State = s
		if s == compute.Failed {
			fresh.Status.Code, fresh.Status.Since = "refused", c.time().Add(-100*time.Millisecond)
		}
		j.changed(fresh)
	}
	j.gone("fresh")
	j.gone("fresh")
	j.gone("nobody")
	var got []string
	for len(events) > 0 {
		e := <-events
		got = append(got, fmt.Sprint(e.sentence(), " ", e.Found))
	}
	want := "[worker is running true fresh is pending false fresh is preparing false fresh is attesting false fresh is failed: refused false fresh is deleted false]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	mine := j.recent("f", 100)
	if len(mine) != 5 || mine[0].State != stateDeleted || mine[1].At != c.time().Add(-100*time.Millisecond) {
		t.Errorf("%+v", mine)
	}
	if bars := timeline(mine, c.time()); len(bars) != 4 || bars[0].X != 0 || bars[3].X+bars[3].Width < stripWidth-0.01 || bars[3].X+bars[3].Width > stripWidth+0.01 {
		t.Errorf("timeline %+v", bars)
	}
	if timeline(nil, c.time()) != nil {
		t.Error("a timeline of nothing")
	}
}

// A journal does not grow, and a listener that sleeps holds nobody up.
func TestJournalIsBounded(t *testing.T) {
	j := newJournal(time.Now)
	events, end := j.listen()
	i := worker(compute.Running)
	i.Status.Message = string(make([]byte, 10*maxMessage))
	for n := range 3 * maxEvents {
		i.Status.Epoch = n
		j.changed(i)
	}
	if n := len(j.recent("", 10*maxEvents)); n != maxEvents || len(events) != maxBehind {
		t.Errorf("%d events, %d for a listener", n, len(events))
	}
	if n := len(j.recent("", 1)[0].Message); n > maxMessage+8 {
		t.Errorf("a message of %d bytes", n)
	}
	end()
	if len(j.listeners) > 0 {
		t.Error("a listener stays")
	}
}

func TestRing(t *testing.T) {
	for _, c := range []struct {
		counts []count
		parts  int
	}{{nil, 0}, {[]count{{compute.Running, 1}}, 1}, {[]count{{compute.Running, 1}, {compute.Failed, 1000}}, 2}} {
		if got := ring(c.counts); len(got) != c.parts {
			t.Errorf("%v: %v", c.counts, got)
		}
	}
}

func TestSteps(t *testing.T) {
	for state, want := range map[compute.State]string{
		compute.Pending:   "[{pending now} {preparing ahead} {attesting ahead} {running ahead}]",
		compute.Attesting: "[{pending done} {preparing done} {attesting now} {running ahead}]",
		compute.Running:   "[{pending done} {preparing done} {attesting done} {running now}]",
		compute.Failed:    "[{pending ahead} {preparing ahead} {attesting ahead} {running ahead} {failed failed}]",
	} {
		if got := fmt.Sprint(steps(compute.Status{State: state})); got != want {
			t.Errorf("%s: %s", state, got)
		}
	}
	if got := fmt.Sprint(steps(compute.Status{State: compute.Stopped, ReadyAt: time.Now()})); got != "[{pending done} {preparing done} {attesting done} {running done} {stopped stopped}]" {
		t.Errorf("%s", got)
	}
}
