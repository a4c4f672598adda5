package azurepolicy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/attest/azurepolicy/internal/jmespath"
)

// action = name "(" [ assignment { "," assignment } ] ")"
func (p *parser) action() (action, bool) {
	t := p.next()
	a := action{at: t.at, claim: -1}
	known := false
	for _, k := range []actionKind{permit, deny, add, issue, issueProperty} {
		if t.kind == tokName && t.text == k.String() {
			a.kind, known = k, true
		}
	}
	if !known {
		p.report(t.at, "want permit, deny, add, issue or issueproperty, got "+t.show(), "")
		return a, false
	}
	p.checkPlace(a)
	if !p.expect("(", "after "+a.kind.String()) {
		return a, false
	}
	if a.kind == permit || a.kind == deny {
		return a, p.expect(")", fmt.Sprintf("after %s(, which takes no claim", a.kind))
	}
	seen := map[string]bool{}
	for {
		if !p.assignment(&a, seen) {
			return a, false
		}
		if p.accept(")") {
			return a, p.checkAction(a)
		}
		if !p.expect(",", `or ")"`) {
			return a, false
		}
	}
}

// checkPlace holds the table "action verbs" of "Claim and claim rules".
func (p *parser) checkPlace(a action) {
	ok, hint := true, ""
	switch a.kind {
	case permit, deny:
		ok, hint = p.section == authorization, "permit() and deny() stand in authorizationrules"
	case add:
		ok, hint = p.section != configuration, "configurationrules only have issueproperty"
	case issue:
		ok, hint = p.section == issuance, "only issuancerules issue claims; add(…) makes one that later rules see"
	case issueProperty:
		ok, hint = p.section != authorization, "properties are issued in configurationrules and issuancerules"
	}
	if !ok {
		p.report(a.at, fmt.Sprintf("%s is not allowed in %s", a.kind, p.section), hint)
	}
}

func (p *parser) assignment(a *action, seen map[string]bool) bool {
	name := p.next()
	if name.kind != tokName {
		p.report(name.at, "want type=, value= or claim=, got "+name.show(), `write type="…", value=…`)
		return false
	}
	if seen[name.text] {
		p.report(name.at, name.text+" twice", "")
	}
	seen[name.text] = true
	if op := p.next(); op.text != "=" || op.kind != tokSign {
		p.report(op.at, fmt.Sprintf(`want "=" after %s, got %s`, name.text, op.show()), `an action assigns with one "="`)
		return false
	}
	if name.text == "claim" {
		t := p.next()
		i, ok := p.resolve(t)
		a.claim = i
		return ok
	}
	e, ok := p.expression(0)
	if !ok {
		return false
	}
	switch name.text {
	case "type":
		a.typ = e
	case "value":
		a.value = e
	case "valueType":
		lit, _ := e.(literal)
		if !knownValueType(lit.v.s) {
			p.report(name.at, "want valueType String, Integer or Boolean", "")
			return false
		}
		a.valueType = lit.v.s
	default:
		p.report(name.at, fmt.Sprintf("want type, value, valueType or claim, got %q", name.text), "the issuer of what a policy makes is always AttestationPolicy")
		return false
	}
	return true
}

func (p *parser) checkAction(a action) bool {
	switch {
	case a.claim >= 0 && (a.typ != nil || a.value != nil || a.valueType != ""):
		p.report(a.at, "claim= stands alone", "name a claim, or a type and a value")
		return false
	case a.claim < 0 && (a.typ == nil || a.value == nil):
		p.report(a.at, fmt.Sprintf("%s needs a type and a value", a.kind), `write type="…", value=…`)
		return false
	}
	if lit, ok := a.typ.(literal); ok {
		if err := checkType(a.kind, lit.v); err != nil {
			p.report(a.at, err.Error(), "")
			return false
		}
	}
	return true
}

// checkType refuses names of claims that a policy must not make. The names of
// RFC 7519 and those that say who decided by what are the token's own.
func checkType(k actionKind, v value) error {
	switch {
	case v.kind != kindText || v.s == "" || len(v.s) > maxTypeName:
		return fmt.Errorf("a type is a text of 1 to %d bytes", maxTypeName)
	case k == issue && reserved(v.s):
		return fmt.Errorf("%q is a claim of the token itself and cannot be issued", v.s)
	}
	return nil
}

func reserved(name string) bool {
	switch name {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "nonce", "x-ms-ver", "x-ms-policy-hash", "x-ms-policy-signer", "x-ms-policy":
		return true
	}
	return strings.HasPrefix(name, ownPrefix)
}

// expression = text | [ "-" ] number | "true" | "false" | name "." property | name "(" … ")"
func (p *parser) expression(depth int) (expr, bool) {
	t := p.next()
	switch {
	case depth > MaxNesting:
		p.report(t.at, fmt.Sprintf("calls nested deeper than %d", MaxNesting), "")
		return nil, false
	case t.kind == tokText:
		return literal{textValue(t.text)}, true
	case t.kind == tokNumber:
		return p.number(t, "")
	case t.kind == tokSign && t.text == "-" && p.peek().kind == tokNumber:
		return p.number(p.next(), "-")
	case t.kind == tokName && (t.text == "true" || t.text == "false"):
		return literal{boolValue(t.text == "true")}, true
	case t.kind == tokName && p.is("("):
		return p.call(t, depth)
	case t.kind == tokName && p.is("."):
		i, ok := p.resolve(t)
		p.next()
		name := p.next()
		r := reference{at: t.at, cond: i, id: t.text}
		if name.kind != tokName || !readProperty(name.text, &r.prop) {
			p.report(name.at, "want type, value, valueType or issuer, got "+name.show(), "")
			return nil, false
		}
		return r, ok
	}
	p.report(t.at, "want a text, an integer, true, false or a claim's property, got "+t.show(), "")
	return nil, false
}

// number reads an integer, decimal or (as the pages write masks) hexadecimal.
func (p *parser) number(t tok, sign string) (expr, bool) {
	digits, base := t.text, 10
	if rest, ok := strings.CutPrefix(strings.ToLower(t.text), "0x"); ok {
		digits, base = rest, 16
	}
	n, err := strconv.ParseInt(sign+digits, base, 64)
	if err != nil {
		p.report(t.at, fmt.Sprintf("%q is not a 64-bit integer", shortened(sign+t.text)), "")
		return nil, false
	}
	return literal{integerValue(n)}, true
}

// shortened keeps a long spelling out of an error.
func shortened(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// resolve finds the condition that a name stands for: one of this rule, before
// the place of use.
func (p *parser) resolve(t tok) (int, bool) {
	for i, c := range p.rule.conditions {
		if t.kind == tokName && c.id == t.text {
			return i, true
		}
	}
	p.report(t.at, fmt.Sprintf("no condition before this is named %s", t.show()), `name it: c:[type=="…"]`)
	return -1, false
}

func (p *parser) call(name tok, depth int) (expr, bool) {
	fn := lookupFunction(name.text)
	if fn == nil {
		p.report(name.at, fmt.Sprintf("there is no function %s", name.text), "there are "+functionNames())
		return nil, false
	}
	if p.p.version != V12 {
		p.report(name.at, "functions came with version 1.2", "write version= 1.2")
	}
	p.next() // "("
	c := call{at: name.at, fn: fn}
	for !p.accept(")") {
		if len(c.args) > 0 && !p.expect(",", `or ")" in the arguments of `+name.text) {
			return nil, false
		}
		a, ok := p.expression(depth + 1)
		if !ok {
			return nil, false
		}
		if c.args = append(c.args, a); len(c.args) > fn.args {
			break
		}
	}
	if len(c.args) != fn.args {
		p.report(name.at, fmt.Sprintf("%s takes %d argument(s)", name.text, fn.args), "")
		return nil, false
	}
	return p.compileQuery(c)
}

// compileQuery compiles a query that is a literal, so that an error in it shows
// here and not at the first evidence.
func (p *parser) compileQuery(c call) (expr, bool) {
	if c.fn.name != jmesPathName {
		return c, true
	}
	lit, ok := c.args[1].(literal)
	if !ok {
		return c, true
	}
	q, err := jmespath.Compile(lit.v.s)
	if lit.v.kind != kindText || err != nil {
		if err == nil {
			err = fmt.Errorf("the second argument of %s is a query, not %s", jmesPathName, lit.v.source())
		}
		p.report(c.at, err.Error(), "")
		return nil, false
	}
	c.query = q
	return c, true
}
