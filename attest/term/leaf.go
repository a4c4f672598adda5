package term

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// MaxLeaves is how many refusing terms [Node.Refusals] lists.
const MaxLeaves = 64

// Leaf is a term that is to blame: it is false or in error, and none of its own
// terms is.
type Leaf struct {
	Node
	// Path leads to the term: the position, from 1, among the terms of each node
	// on the way. Empty for the root itself.
	Path []int
}

// Refusals returns the terms that are to blame for a root that is not true, in
// the author's order. Under an "any of" that is every alternative, because each
// of them would have done. A root that is true or was not reached has none.
func (n Node) Refusals() []Leaf {
	var out []Leaf
	n.collect(nil, MaxLeaves, MaxDepth, &out)
	return out
}

// FirstRefusal returns the first of [Node.Refusals].
func (n Node) FirstRefusal() (Leaf, bool) {
	var out []Leaf
	n.collect(nil, 1, MaxDepth, &out)
	if len(out) == 0 {
		return Leaf{}, false
	}
	return out[0], true
}

func (n Node) refuses() bool { return n.Result == False || n.Result == Error }

func (n Node) collect(path []int, most, depth int, out *[]Leaf) {
	if !n.refuses() || len(*out) >= most {
		return
	}
	deeper := false
	for i, t := range n.Terms {
		if t.refuses() && depth > 1 {
			deeper = true
			t.collect(append(slices.Clip(path), i+1), most, depth-1, out)
		}
	}
	if !deeper {
		alone := n
		alone.Terms = nil
		*out = append(*out, Leaf{Node: alone.bounded(), Path: path})
	}
}

// String returns "term 1.3: claim: want …, got …". Text stands in for a claim
// where the term looks at none.
func (l Leaf) String() string {
	name := l.Claim
	if name == "" {
		name = l.Text
	}
	s := name
	if len(l.Path) > 0 {
		s = "term " + l.number() + ": " + name
	}
	if wg := l.wantGot(); wg != "" {
		s += ": " + wg
	}
	return s
}

func (l Leaf) number() string {
	parts := make([]string, len(l.Path))
	for i, p := range l.Path {
		parts[i] = strconv.Itoa(p)
	}
	return strings.Join(parts, ".")
}

// Failures returns the refusing terms in the form that refusals have everywhere
// else, with the position of each term as its hint.
func (n Node) Failures(code tee.Code) []tee.Failure {
	leaves := n.Refusals()
	out := make([]tee.Failure, len(leaves))
	for i, l := range leaves {
		out[i] = tee.Failure{Code: code, Claim: l.Claim, Want: l.Want, Got: l.Got}
		if l.Claim == "" {
			out[i].Claim = l.Text
		}
		if l.Position != "" {
			out[i].Hint = "see " + l.Position + " of the policy"
		}
	}
	return out
}
