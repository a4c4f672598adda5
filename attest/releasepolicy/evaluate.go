package releasepolicy

import (
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
)

// Evaluate decides whether a key may be released: claims are those of a token
// that was verified, authority is the issuer that it was verified against. The
// node says why not; for a release it is the root alone (see [Policy.Explain]).
//
// An authority is compared exactly, apart from one slash at its end. Claim names
// are members of claims, or lead with dots into objects: "a.b" is the member
// "a.b", or the member b of the object a. Names that fit both ways are refused.
func (p *Policy) Evaluate(claims map[string]any, authority string) (bool, term.Node) {
	if p == nil || len(p.root.terms) == 0 {
		return false, term.Node{Text: "release policy", Result: term.False, Want: "a policy", Got: "none"}
	}
	e := evaluation{claims: claims, authority: trimSlash(authority)}
	if e.node(&p.root) == term.True {
		return true, term.Node{Text: "release policy", Position: p.root.at, Result: term.True}
	}
	return false, p.Explain(claims, authority)
}

// Explain evaluates the policy and returns the whole tree.
func (p *Policy) Explain(claims map[string]any, authority string) term.Node {
	if p == nil || len(p.root.terms) == 0 {
		_, n := p.Evaluate(claims, authority)
		return n
	}
	e := evaluation{claims: claims, authority: trimSlash(authority)}
	n := e.explain(&p.root)
	e.blame(&p.root, &n)
	n.Text = "release policy, " + p.root.word() + " of authorities"
	return n
}

// blame leaves the statements of other authorities out of the reasons, if the
// policy names this one.
func (e *evaluation) blame(root *group, n *term.Node) {
	speaks := func(t node) bool {
		s, ok := t.(*statement)
		return ok && e.speaks(s)
	}
	if root.all || !slices.ContainsFunc(root.terms, speaks) {
		return
	}
	for i, t := range root.terms {
		if !speaks(t) {
			n.Terms[i].Result = term.NotReached
		}
	}
}

type evaluation struct {
	claims    map[string]any
	authority string
}

// node evaluates a term. The depth is that of the policy, which is bounded.
func (e *evaluation) node(n node) term.Result {
	switch n := n.(type) {
	case *group:
		for _, t := range n.terms {
			// An error counts as false: the condition is not met.
			if met := e.node(t) == term.True; met != n.all {
				return term.Of(met)
			}
		}
		return term.Of(n.all && len(n.terms) > 0)
	case *statement:
		if !e.speaks(n) {
			return term.False
		}
		return e.node(&n.group)
	case *condition:
		r, _, _ := e.condition(n)
		return r
	}
	return term.Error
}

func (e *evaluation) speaks(s *statement) bool {
	return e.authority != "" && e.authority == s.authority
}

// condition returns the result, the claim and in how many ways its name fits.
func (e *evaluation) condition(c *condition) (result term.Result, v any, found int) {
	v, found = lookup(e.claims, c.claim)
	switch {
	case found > 1:
		return term.Error, v, found
	case c.op == exists:
		return term.Of((found == 1) == c.want.flag), v, found
	case found == 0:
		return term.False, v, found
	}
	return term.Of(c.meets(valueOf(v))), v, found
}

// got says what there was where a condition is not met.
func (c *condition) got(v any, found int) string {
	switch {
	case found > 1:
		return "a name that fits several claims"
	case found == 0:
		return "no such claim"
	}
	if k := valueOf(v).kind; c.op != exists && k != c.want.kind && k != none {
		return term.Value(v) + ", which is " + k.String()
	}
	return term.Value(v)
}

// lookup finds a claim, and in how many ways the name can be read: 0, 1 or more.
func lookup(claims map[string]any, name string) (v any, found int) {
	s := searcher{left: maxReadings}
	s.find(claims, name)
	return s.v, s.found
}

// maxReadings bounds the work of a lookup. A name that needs more is taken to
// fit several claims.
const maxReadings = 256

type searcher struct {
	v     any
	found int
	left  int
}

func (s *searcher) find(m map[string]any, name string) {
	if s.left--; s.left < 0 {
		s.found = 2
		return
	}
	if v, ok := m[name]; ok {
		s.v = v
		s.found++
	}
	for i := range len(name) {
		if name[i] != '.' || s.found > 1 {
			continue
		}
		if below, ok := m[name[:i]].(map[string]any); ok {
			s.find(below, name[i+1:])
		}
	}
}

// explain evaluates everything that is needed for the tree.
func (e *evaluation) explain(n node) term.Node {
	switch n := n.(type) {
	case *group:
		return e.explainGroup(n)
	case *statement:
		return e.explainStatement(n)
	case *condition:
		r, v, found := e.condition(n)
		out := term.Node{Text: n.source(), Position: n.at, Claim: n.claim, Result: r}
		if r != term.True {
			out.Want, out.Got = n.wanted(), n.got(v, found)
		}
		return out
	}
	return term.Node{Result: term.Error}
}

func (e *evaluation) explainGroup(g *group) term.Node {
	out := term.Node{Text: g.word(), Position: g.at, Result: term.Of(g.all && len(g.terms) > 0)}
	decided := false
	for _, t := range g.terms {
		n := e.explain(t)
		if met := n.Result == term.True; met != g.all {
			decided = true
		}
		out.Terms = append(out.Terms, n)
	}
	if decided {
		out.Result = term.Of(!g.all)
	}
	return out
}

func (e *evaluation) explainStatement(s *statement) term.Node {
	out := term.Node{Text: "authority " + s.authority, Position: s.at}
	issuer := term.Node{Text: `"authority":` + quote(s.authority), Position: s.at + "/authority", Claim: "iss", Result: term.Of(e.speaks(s))}
	if !e.speaks(s) {
		// The claims are another authority's: its conditions are not about them.
		issuer.Want, issuer.Got = s.authority, e.authority
		if e.authority == "" {
			issuer.Got = "none"
		}
		out.Result, out.Terms = term.False, []term.Node{issuer, {Text: s.group.word(), Position: s.group.at}}
		return out
	}
	g := e.explainGroup(&s.group)
	out.Result, out.Terms = g.Result, []term.Node{issuer, g}
	return out
}

// wanted spells what a condition wants of its claim.
func (c *condition) wanted() string {
	switch c.op {
	case equals:
		return c.want.source()
	case exists:
		if c.want.flag {
			return "the claim"
		}
		return "no such claim"
	case notEquals:
		return "not " + c.want.source()
	case less:
		return "< " + c.want.source()
	case lessOrEquals:
		return "<= " + c.want.source()
	case greater:
		return "> " + c.want.source()
	case greaterOrEquals:
		return ">= " + c.want.source()
	case operatorCount:
	}
	return strings.TrimSpace(c.op.String())
}
