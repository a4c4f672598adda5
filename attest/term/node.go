package term

import (
	"encoding/json"
	"fmt"
)

// Bounds of what is rendered, encoded and listed. What goes beyond them is cut,
// and the cut is visible.
const (
	MaxText  = 240 // bytes of a node's text
	MaxValue = 120 // bytes of a claim's name or of a wanted or found value
	MaxDepth = 24
	MaxNodes = 2048 // of one tree
	MaxLines = 512  // of a rendered tree
)

// Result is what a term came to.
type Result uint8

// The results. The zero value is that of a term that was not needed.
const (
	NotReached Result = iota
	True
	False
	Error // the term could not be evaluated, which refuses
)

// String returns the word that JSON and rendered trees use.
func (r Result) String() string {
	switch r {
	case NotReached:
		return "not_reached"
	case True:
		return "true"
	case False:
		return "false"
	case Error:
		return "error"
	}
	return "error"
}

// MarshalText returns the same as String.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Result) UnmarshalText(b []byte) error {
	for _, known := range []Result{NotReached, True, False, Error} {
		if string(b) == known.String() {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("unknown result %q: want true, false, error or not_reached", Clean(string(b), MaxValue))
}

// Of turns a decision into a result.
func Of(ok bool) Result {
	if ok {
		return True
	}
	return False
}

// Node is one term of a policy and what became of it.
type Node struct {
	// Text is the term as the author wrote it, in the language's canonical form.
	Text string `json:"text"`
	// Position is "line:column" in a policy that is text, or a JSON pointer.
	Position string `json:"position,omitempty"`
	// Claim names the claim that the term looks at, if it is one.
	Claim  string `json:"claim,omitempty"`
	Result Result `json:"result"`
	// Want and Got are short and printable. With an error, Got says what went
	// wrong.
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
	// Terms are the terms that this one is made of, in the author's order.
	Terms []Node `json:"terms,omitempty"`
}

// bounded returns a copy within the bounds of this package.
func (n Node) bounded() Node {
	left := MaxNodes
	return n.cut(&left, MaxDepth)
}

func (n Node) cut(left *int, depth int) Node {
	*left--
	out := Node{
		Text: Clean(n.Text, MaxText), Position: Clean(n.Position, MaxValue), Claim: Clean(n.Claim, MaxValue),
		Result: n.Result, Want: Clean(n.Want, MaxValue), Got: Clean(n.Got, MaxValue),
	}
	for i, t := range n.Terms {
		if *left <= 0 || depth <= 1 {
			out.Terms = append(out.Terms, Node{Text: fmt.Sprintf("… %d more terms", len(n.Terms)-i)})
			break
		}
		out.Terms = append(out.Terms, t.cut(left, depth-1))
	}
	return out
}

// MarshalJSON encodes the tree within the bounds of this package; equal trees
// give equal bytes.
func (n Node) MarshalJSON() ([]byte, error) { return json.Marshal(plain(n.bounded())) }

// plainNode is a Node without MarshalJSON, for a tree that is cut already.
type plainNode struct {
	Text     string      `json:"text"`
	Position string      `json:"position,omitempty"`
	Claim    string      `json:"claim,omitempty"`
	Result   Result      `json:"result"`
	Want     string      `json:"want,omitempty"`
	Got      string      `json:"got,omitempty"`
	Terms    []plainNode `json:"terms,omitempty"`
}

func plain(n Node) plainNode {
	p := plainNode{Text: n.Text, Position: n.Position, Claim: n.Claim, Result: n.Result, Want: n.Want, Got: n.Got}
	for _, t := range n.Terms {
		p.Terms = append(p.Terms, plain(t))
	}
	return p
}
