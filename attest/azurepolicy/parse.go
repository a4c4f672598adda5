package azurepolicy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Parse reads a policy. The error is a [*SyntaxError] that lists everything that
// is wrong, each with its line and column.
func Parse(policy string) (*Policy, error) {
	p := parser{p: &Policy{names: map[string]bool{}}}
	switch {
	case len(policy) > MaxText:
		p.report(position{1, 1}, fmt.Sprintf("%d bytes, at most %d", len(policy), MaxText), "")
	case !utf8.ValidString(policy):
		p.report(position{1, 1}, "the text is not UTF-8", "")
	default:
		p.tokens = lex(policy, p.report)
		p.policy()
	}
	if len(p.problems) > 0 {
		return nil, &SyntaxError{Problems: p.problems}
	}
	return p.p, nil
}

type parser struct {
	tokens   []tok
	at       int
	p        *Policy
	problems []Problem
	rules    int
	patterns int
	// The rule that is being read.
	section sectionKind
	rule    *rule
}

// report notes a problem; the first at a place counts.
func (p *parser) report(at position, reason, hint string) {
	if len(p.problems) >= MaxProblems {
		return
	}
	for _, seen := range p.problems {
		if seen.Line == at.line && seen.Column == at.col {
			return
		}
	}
	p.problems = append(p.problems, Problem{Line: at.line, Column: at.col, Reason: reason, Hint: hint})
}

func (p *parser) peek() tok { return p.tokens[p.at] }

func (p *parser) next() tok {
	t := p.tokens[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

func (p *parser) is(sign string) bool {
	t := p.peek()
	return t.kind == tokSign && t.text == sign
}

func (p *parser) accept(sign string) bool {
	if !p.is(sign) {
		return false
	}
	p.next()
	return true
}

// expect reports whether the sign is next, and what is there instead.
func (p *parser) expect(sign, where string) bool {
	if p.accept(sign) {
		return true
	}
	p.report(p.peek().at, fmt.Sprintf("want %q %s, got %s", sign, where, p.peek().show()), "")
	return false
}

// policy = "version" "=" number ";" { section }
func (p *parser) policy() {
	p.version()
	for p.peek().kind != tokEnd && len(p.problems) < MaxProblems {
		if !p.sectionOrSkip() {
			return
		}
	}
	if !p.p.sections[authorization].given {
		p.report(p.peek().at, "authorizationrules are missing", "without a rule that says permit() nothing is permitted")
	}
}

func (p *parser) version() {
	t := p.next()
	if t.kind != tokName || !strings.EqualFold(t.text, "version") {
		p.report(t.at, `a policy begins with its version, got `+t.show(), `write "version= 1.0;"`)
		p.at, p.p.version = 0, V12 // to find what else is wrong, without false alarms
		return
	}
	ok := p.expect("=", "after version")
	major, dot, minor := p.next(), p.accept("."), p.next()
	v := Version(major.text + "." + minor.text)
	switch {
	case !ok:
	case !dot || v != V10 && v != V11 && v != V12:
		p.report(major.at, "want version 1.0, 1.1 or 1.2", "")
	default:
		p.p.version = v
	}
	if p.p.version == "" {
		p.p.version = V12
		p.skipTo("{")
		if p.at > 0 && p.is("{") {
			p.at--
		}
		return
	}
	p.expect(";", "after the version")
}

// skipTo goes to the next of a sign, and not beyond it.
func (p *parser) skipTo(sign string) {
	for p.peek().kind != tokEnd && !p.is(sign) {
		p.next()
	}
}

// sectionOrSkip reads a section. Its names are written in either case: the
// samples have both "issuancerules" and "Issuancerules".
func (p *parser) sectionOrSkip() bool {
	t := p.next()
	kind := sectionCount
	for k := range sectionCount {
		if t.kind == tokName && strings.EqualFold(t.text, k.String()) {
			kind = k
		}
	}
	if kind == sectionCount {
		p.report(t.at, "want configurationrules, authorizationrules or issuancerules, got "+t.show(), "")
		p.skipTo("}")
		p.accept("}")
		p.accept(";")
		return p.peek().kind != tokEnd
	}
	if kind == configuration && p.p.version == V10 {
		p.report(t.at, "configurationrules came with version 1.1", "write version= 1.1")
	}
	s := &p.p.sections[kind]
	if s.given {
		p.report(t.at, kind.String()+" twice", "write all rules into one section")
	}
	s.given, s.at, p.section = true, t.at, kind
	if !p.expect("{", "after "+kind.String()) {
		return false
	}
	for !p.is("}") {
		if p.peek().kind == tokEnd {
			p.report(p.peek().at, `want "}" at the end of `+kind.String(), "")
			return false
		}
		if p.rules++; p.rules > MaxRules {
			p.report(p.peek().at, fmt.Sprintf("more than %d rules", MaxRules), "")
			return false
		}
		if r, ok := p.readRule(); ok {
			s.rules = append(s.rules, r)
		} else {
			p.recover()
		}
	}
	p.next()
	p.accept(";")
	return true
}

// recover goes to where the next rule begins, after an error in this one.
func (p *parser) recover() {
	for p.peek().kind != tokEnd && !p.is("}") {
		if p.accept(";") {
			return
		}
		p.next()
	}
}

// readRule = [ condition { "&&" condition } ] "=>" action ";"
func (p *parser) readRule() (rule, bool) {
	r := rule{at: p.peek().at}
	p.rule = &r
	for !p.is("=>") {
		if len(r.conditions) > 0 && !p.expect("&&", `or "=>" after a condition`) {
			return r, false
		}
		c, ok := p.condition()
		if !ok {
			return r, false
		}
		if r.conditions = append(r.conditions, c); len(r.conditions) > MaxConditions {
			p.report(c.at, fmt.Sprintf("more than %d conditions in one rule", MaxConditions), "")
			return r, false
		}
	}
	p.next()
	act, ok := p.action()
	if !ok {
		return r, false
	}
	r.act = act
	if !p.is(";") {
		p.report(p.peek().at, `want ";" at the end of the rule, got `+p.peek().show(), "")
		return r, false
	}
	p.next()
	p.finish(&r)
	return r, true
}

// finish notes what evaluation wants to know of the whole rule.
func (p *parser) finish(r *rule) {
	for i := range r.conditions {
		c := &r.conditions[i]
		if p.section == authorization && c.typ != "" {
			p.p.names[c.typ] = true
		}
		for _, t := range c.tests {
			if ref, ok := t.operand.(reference); ok {
				r.linked, c.linked = true, true
				r.conditions[ref.cond].linked = true
				r.conditions[ref.cond].bound = true
			}
			bindInside(r, t.operand)
		}
	}
	for _, e := range []expr{r.act.typ, r.act.value} {
		bindInside(r, e)
		if ref, ok := e.(reference); ok {
			r.act.addDirect(ref.cond)
		}
	}
	if r.act.claim >= 0 {
		r.act.addDirect(r.act.claim)
	}
	for _, i := range r.act.direct {
		r.conditions[i].bound = true
	}
}

// bindInside marks the conditions whose claims a function wants.
func bindInside(r *rule, e expr) {
	c, ok := e.(call)
	if !ok {
		return
	}
	for _, a := range c.args {
		if ref, ok := a.(reference); ok {
			r.conditions[ref.cond].bound = true
		}
		bindInside(r, a)
	}
}

func (a *action) addDirect(cond int) {
	if !slices.Contains(a.direct, cond) {
		a.direct = append(a.direct, cond)
	}
}
