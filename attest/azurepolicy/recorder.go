package azurepolicy

import (
	"slices"

	"github.com/cloister-cc/cloister/attest/term"
)

// recorder builds the explanation of one evaluation.
type recorder struct {
	sections []recorded
	guards   []term.Node
	results  []term.Result // of the conditions of the current rule
	err      error         // of the condition that failed
}

type recorded struct {
	node   term.Node
	kind   sectionKind
	guards int          // terms that are not rules, first
	rules  []actionKind // of the rules
}

func (c *recorder) current() *recorded { return &c.sections[len(c.sections)-1] }

func (c *recorder) section(p *Policy, k sectionKind) {
	s := recorded{kind: k, node: term.Node{Text: k.String(), Result: term.True}}
	if p.sections[k].given {
		s.node.Position = p.sections[k].at.String()
	}
	if k == authorization {
		s.node.Terms, s.guards = c.guards, len(c.guards)
	}
	c.sections = append(c.sections, s)
}

// guard notes a claim that neither policy nor caller allows.
func (c *recorder) guard(name string, got value) {
	c.guards = append(c.guards, term.Node{
		Text: "unless the policy names " + name, Claim: name, Result: term.False, Want: "false", Got: got.show(),
	})
}

func (c *recorder) begin(conditions int) {
	c.results, c.err = make([]term.Result, conditions), nil
}

func (c *recorder) condition(i int, ok bool, err error) {
	c.results[i] = term.Of(ok)
	if err != nil {
		c.results[i], c.err = term.Error, err
	}
}

// rule adds the node of a rule whose conditions were looked at. The question of
// every node is whether it lets the evidence pass, so that a rule that denies is
// true when it does not fire.
func (c *recorder) rule(e *evaluation, r *rule, fires bool, err error) {
	n := term.Node{Text: r.String(), Position: r.at.String(), Result: term.NotReached}
	switch r.act.kind {
	case permit:
		n.Result = term.Of(fires)
	case deny:
		if n.Result = term.Of(!fires); fires {
			n.Want, n.Got = "no match", "every condition holds"
		}
	case add, issue, issueProperty:
		if fires {
			n.Result = term.True
		}
	}
	for i := range r.conditions {
		n.Terms = append(n.Terms, e.explain(&r.conditions[i], c.results[i], c.err))
	}
	if err != nil {
		n.Result = term.Error
	}
	s := c.current()
	s.node.Terms, s.rules = append(s.node.Terms, n), append(s.rules, r.act.kind)
}

// fail marks the rule that was last as the one that could not be evaluated.
func (c *recorder) fail(err error) {
	s := c.current()
	last := &s.node.Terms[len(s.node.Terms)-1]
	if last.Result != term.Error {
		last.Result, last.Got = term.Error, err.Error()
	}
	s.node.Result = term.Error
}

// root returns the whole tree.
func (c *recorder) root(p *Policy, permitted bool) term.Node {
	n := term.Node{Text: "attestation policy, version " + string(p.version), Result: term.Of(permitted)}
	for i := range c.sections {
		s := &c.sections[i]
		switch {
		case s.node.Result == term.Error:
			n.Result = term.Error
		case s.kind == authorization:
			s.decide()
		}
		if p.sections[s.kind].given || len(s.node.Terms) > 0 {
			n.Terms = append(n.Terms, s.node)
		}
	}
	return n
}

// decide sets the result of authorizationrules from those of its rules.
func (s *recorded) decide() {
	rules := s.node.Terms[s.guards:]
	permits, refused := false, s.guards > 0
	for i, k := range s.rules {
		permits = permits || k == permit && rules[i].Result == term.True
		refused = refused || k == deny && rules[i].Result == term.False
	}
	for i, k := range s.rules {
		if permits && k == permit && rules[i].Result == term.False {
			rules[i].Result = term.NotReached // another rule permits: not to blame
		}
	}
	if !slices.Contains(s.rules, permit) {
		s.node.Terms = append(s.node.Terms, term.Node{Text: "a rule that permits", Result: term.False, Want: "a rule with permit()", Got: "none"})
	}
	s.node.Result = term.Of(permits && !refused)
}
