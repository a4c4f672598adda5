package portal

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// The charts are geometry; templates draw it as SVG and colour it by class, so
// that no style is inline and no text gets in unescaped.

// arc is one part of a ring.
type arc struct {
	Path  string
	Class string
}

// ring draws counts as a ring around (60, 60).
func ring(counts []count) []arc {
	const centre, radius = 60.0, 46.0
	total := 0
	for _, c := range counts {
		total += c.N
	}
	if total == 0 {
		return nil
	}
	gap := 0.05 // radians between parts
	if len(counts) == 1 {
		gap = 0.0001 // an arc must not end where it begins
	}
	at := func(angle float64) (x, y float64) {
		return centre + radius*math.Sin(angle), centre - radius*math.Cos(angle)
	}
	var out []arc
	angle := 0.0
	for _, c := range counts {
		part := 2 * math.Pi * float64(c.N) / float64(total)
		from, to := angle+gap/2, angle+max(part-gap/2, gap)
		x1, y1 := at(from)
		x2, y2 := at(to)
		large := 0
		if to-from > math.Pi {
			large = 1
		}
		out = append(out, arc{
			Path:  fmt.Sprintf("M%.2f %.2fA%.0f %.0f 0 %d 1 %.2f %.2f", x1, y1, radius, radius, large, x2, y2),
			Class: stateOf(c.State).Class,
		})
		angle += part
	}
	return out
}

// bar is the time that an instance spent in one state.
type bar struct {
	X, Width float64 // of stripWidth
	Class    string
	Text     string
}

// stripWidth is the width of a timeline in its own units.
const stripWidth = 720.0

// timeline draws the events of one instance, the newest first, from the oldest
// until now. Short states get a width that can be seen.
func timeline(events []event, now time.Time) []bar {
	if len(events) == 0 {
		return nil
	}
	const least = 6.0
	from := events[len(events)-1].At
	total := max(now.Sub(from), time.Second)
	bars := make([]bar, 0, len(events))
	width := 0.0
	for i, e := range slices.Backward(events) {
		until := now
		if i > 0 {
			until = events[i-1].At
		}
		if e.State == stateDeleted {
			continue
		}
		l := stateOf(e.State)
		spent := max(until.Sub(e.At), 0)
		w := max(least, stripWidth*float64(spent)/float64(total))
		bars = append(bars, bar{X: width, Width: w, Class: l.Class, Text: fmt.Sprintf("%s for %s", l.Word, spent.Round(time.Millisecond))})
		width += w
	}
	for i := range bars { // what was widened takes from all
		bars[i].X *= stripWidth / width
		bars[i].Width *= stripWidth / width
	}
	return bars
}

// station is one step of a start.
type station struct {
	Name  string
	Class string // done, now, failed or ahead
}

// steps are the stations on the way to a running program, and how far an
// instance has come.
func steps(s compute.Status) []station {
	names := []compute.State{compute.Pending, compute.Preparing, compute.Attesting, compute.Running}
	reached := -1
	switch s.State {
	case compute.Pending:
		reached = 0
	case compute.Preparing:
		reached = 1
	case compute.Attesting:
		reached = 2
	case compute.Running, compute.Stopping:
		reached = 3
	case compute.Stopped, compute.Failed:
		switch { // how far it came, as far as anything tells
		case !s.ReadyAt.IsZero():
			reached = 4
		case len(s.Failures) > 0:
			reached = 3
		case !s.StartedAt.IsZero():
			reached = 1
		}
	}
	var out []station
	for i, n := range names {
		class := "ahead"
		switch {
		case i < reached:
			class = "done"
		case i == reached && !s.State.Final():
			class = "now"
		}
		out = append(out, station{string(n), class})
	}
	if s.State.Final() {
		out = append(out, station{string(s.State), string(s.State)})
	}
	return out
}
