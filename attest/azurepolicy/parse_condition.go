package azurepolicy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// condition = [ "!" ] [ name ":" ] "[" test { "," test } "]"
func (p *parser) condition() (condition, bool) {
	c := condition{at: p.peek().at}
	if p.accept("!") {
		c.negated = true
		if p.p.version != V12 {
			p.report(c.at, "! came with version 1.2", "write version= 1.2")
		}
	}
	if t := p.peek(); t.kind == tokName {
		p.next()
		if p.is("(") || p.is("[") {
			p.report(t.at, fmt.Sprintf("%s is not part of the language", t.text), `presence is "[…]", absence is "![…]" (version 1.2)`)
			return c, false
		}
		c.id = t.text
		if !p.expect(":", "after the condition's name") {
			return c, false
		}
		p.checkName(c, t.at)
	}
	if !p.expect("[", "at the start of a condition") {
		return c, false
	}
	for {
		t, ok := p.test()
		if !ok {
			return c, false
		}
		c.tests = append(c.tests, t)
		if p.accept("]") {
			break
		}
		if !p.expect(",", `or "]" after a test`) {
			return c, false
		}
	}
	if len(c.tests) > MaxTests {
		p.report(c.at, fmt.Sprintf("more than %d tests in one condition", MaxTests), "")
	}
	c.prepare()
	return c, true
}

func (p *parser) checkName(c condition, at position) {
	if c.negated {
		p.report(at, "a negated condition binds no claim", "leave its name out")
	}
	for _, other := range p.rule.conditions {
		if other.id == c.id {
			p.report(at, fmt.Sprintf("the name %s twice in one rule", c.id), "")
		}
	}
}

// prepare finds the literal type and the order of evaluation.
func (c *condition) prepare() {
	for i, t := range c.tests {
		if lit, ok := t.operand.(literal); ok && t.prop == propType && t.op == "==" {
			c.typ = lit.v.s
		}
		if !t.typed() {
			c.order = append(c.order, i)
		}
	}
	for i, t := range c.tests {
		if t.typed() {
			c.order = append(c.order, i)
		}
	}
}

// typed reports whether the test is an error for values of another type.
func (t test) typed() bool { return t.ordered() || t.op == "=~" || t.op == "!~" }

// ordered reports whether the test wants integers.
func (t test) ordered() bool { return t.op == "<" || t.op == "<=" || t.op == ">" || t.op == ">=" }

// test = property operator expression
func (p *parser) test() (test, bool) {
	name := p.next()
	t := test{at: name.at}
	switch {
	case name.kind == tokName && readProperty(name.text, &t.prop):
	case name.kind == tokSign && name.text == "]":
		p.report(name.at, "an empty condition", `name at least a type: [type=="…"]`)
		return t, false
	default:
		p.report(name.at, "want type, value, valueType or issuer, got "+name.show(), "")
		return t, false
	}
	op := p.next()
	switch op.text {
	case "==", "!=", "<", "<=", ">", ">=", "=~", "!~":
		t.op = op.text
	case "=":
		// Microsoft's samples of version 1.2 have issuer="…" beside issuer=="…"; it
		// can only mean the same.
		t.op = "=="
	default:
		p.report(op.at, "want a comparison (==, !=, <, <=, >, >=), got "+op.show(), "")
		return t, false
	}
	operand, ok := p.expression(0)
	if !ok {
		return t, false
	}
	t.operand = operand
	return t, p.checkTest(&t, op.at)
}

func readProperty(s string, p *property) bool {
	for _, known := range []property{propType, propValue, propValueType, propIssuer} {
		if s == known.String() {
			*p = known
			return true
		}
	}
	return false
}

// checkTest refuses comparisons that can never be meant ("Claim and claim
// rules", operators).
func (p *parser) checkTest(t *test, opAt position) bool {
	lit, isLiteral := t.operand.(literal)
	if t.op == "=~" || t.op == "!~" {
		return p.checkPattern(t, opAt)
	}
	if t.ordered() && (t.prop != propValue || isLiteral && lit.v.kind != kindInteger) {
		p.report(opAt, t.op+" compares integers", "texts and booleans have == and !=")
		return false
	}
	if t.prop == propValue || !isLiteral {
		return true
	}
	if lit.v.kind != kindText {
		p.report(opAt, fmt.Sprintf("%s is a text", t.prop), `write it between quotes`)
		return false
	}
	switch {
	case t.prop == propIssuer && (lit.v.s == "" || readIssuer(lit.v.s) == byNobody):
		p.report(opAt, fmt.Sprintf("no claim has the issuer %q", lit.v.s), "want AttestationService, AttestationPolicy or CustomClaim")
		return false
	case t.prop == propValueType && !knownValueType(lit.v.s):
		p.report(opAt, fmt.Sprintf("no claim has the valueType %q", lit.v.s), "want String, Integer or Boolean")
		return false
	}
	return true
}

func knownValueType(s string) bool { return s == "String" || s == "Integer" || s == "Boolean" }

// maxPatternSize bounds the instructions of a compiled pattern, and with
// maxMatched the time that a match can take.
const (
	maxPatternSize = 1000
	maxMatched     = 4096
)

func (p *parser) checkPattern(t *test, at position) bool {
	lit, ok := t.operand.(literal)
	switch {
	case p.p.version != V12:
		p.report(at, t.op+" needs version 1.2", "write version= 1.2")
		return false
	case !ok || lit.v.kind != kindText || t.prop == propValueType:
		p.report(at, t.op+" compares a text with a pattern that is a text itself", "")
		return false
	case len(lit.v.s) > MaxPattern:
		p.report(at, fmt.Sprintf("a pattern of %d bytes, at most %d", len(lit.v.s), MaxPattern), "")
		return false
	}
	if p.patterns++; p.patterns > MaxPatterns {
		p.report(at, fmt.Sprintf("more than %d patterns", MaxPatterns), "")
		return false
	}
	re, size, err := compilePattern(lit.v.s)
	if err != nil {
		p.report(at, err.Error(), "patterns are RE2 (golang.org/s/re2syntax) and match anywhere unless they have ^ and $")
		return false
	}
	t.pattern, t.size = re, size
	p.p.extensions = append(p.p.extensions, fmt.Sprintf("%v: %s", at, t.op))
	return true
}

func compilePattern(s string) (*regexp.Regexp, int, error) {
	parsed, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, 0, fmt.Errorf("not a pattern: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, fmt.Errorf("not a pattern: %w", err)
	}
	if len(program.Inst) > maxPatternSize {
		return nil, 0, fmt.Errorf("the pattern is too large: %d steps, at most %d", len(program.Inst), maxPatternSize)
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, 0, fmt.Errorf("not a pattern: %w", err)
	}
	return re, len(program.Inst), nil
}
