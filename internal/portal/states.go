package portal

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/cloister-cc/cloister/compute"
)

// look is how a state is shown: always with its word, never by colour alone.
type look struct {
	Word  string
	Class string // of the style sheet
	Means string
}

// stateOf returns the look of a state; what this release does not know is shown
// by its own word.
func stateOf(s compute.State) look {
	means := map[compute.State]string{
		compute.Pending:   "wanted, nothing started yet",
		compute.Preparing: "processes start, the image is loaded",
		compute.Attesting: "evidence is shown, secrets are asked for",
		compute.Running:   "proven; the program runs",
		compute.Stopping:  "it is being ended",
		compute.Stopped:   "ended by itself with status 0, or on request",
		compute.Failed:    "ended otherwise; the reason says why",
		stateDeleted:      "removed, with everything of it",
	}
	if text, known := means[s]; known {
		return look{Word: string(s), Class: string(s), Means: text}
	}
	return look{Word: cmp.Or(Visible(string(s)), "unknown"), Class: "unknown", Means: "a state that this release does not know"}
}

// order is the order in which counts are shown.
func order() []compute.State {
	return []compute.State{compute.Running, compute.Attesting, compute.Preparing, compute.Pending, compute.Stopping, compute.Stopped, compute.Failed}
}

// count is how many instances are in a state.
type count struct {
	State compute.State
	N     int
}

func countStates(list []compute.Instance) []count {
	n := map[compute.State]int{}
	for _, i := range list {
		n[i.Status.State]++
	}
	var out []count
	for _, s := range order() {
		if n[s] > 0 {
			out = append(out, count{s, n[s]})
		}
	}
	return out
}

// describeCounts says a chart in words, for who does not see it.
func describeCounts(counts []count) string {
	if len(counts) == 0 {
		return "no instances"
	}
	words := make([]string, len(counts))
	for i, c := range counts {
		words[i] = fmt.Sprintf("%d %s", c.N, c.State)
	}
	return strings.Join(words, ", ")
}
