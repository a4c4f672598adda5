package azurepolicy

import (
	"fmt"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
)

// explain returns the node of a condition, with what it wanted and what the
// claims had to offer where it does not hold.
func (e *evaluation) explain(c *condition, result term.Result, err error) term.Node {
	n := term.Node{Text: c.String(), Position: c.at.String(), Claim: c.typ, Result: result}
	switch result {
	case term.Error:
		n.Got = err.Error()
	case term.False:
		n.Want, n.Got = c.want(), e.got(c)
	case term.NotReached, term.True:
	}
	return n
}

// want spells what a condition asks of the value of its claim.
func (c *condition) want() string {
	var parts []string
	for _, t := range c.tests {
		if t.prop != propValue && (t.prop != propType || c.typ != "") {
			continue
		}
		if t.prop == propType {
			if t.op != "==" || c.typ == "" {
				parts = append(parts, "type "+t.op+" "+source(t.operand))
			}
			continue
		}
		s := source(t.operand)
		if t.op != "==" {
			s = t.op + " " + s
		}
		parts = append(parts, s)
	}
	s := strings.Join(parts, " and ")
	switch {
	case c.negated && s == "":
		return "no such claim"
	case c.negated:
		return "no claim with " + s
	case s == "":
		return "the claim"
	}
	return s
}

// got says which claims come closest: those of the type, and of them those of
// the issuer.
func (e *evaluation) got(c *condition) string {
	const most = 4
	var values []string
	issuers := map[issuer]bool{}
	count := 0
	for i := range e.claims {
		cl := &e.claims[i]
		if c.typ == "" || cl.typ != c.typ {
			continue
		}
		if !issuedAs(c, cl) {
			issuers[cl.issuer] = true
			continue
		}
		if count++; count <= most {
			values = append(values, cl.value.show())
		}
	}
	switch {
	case c.typ == "":
		return "no claim that fits"
	case count > most:
		return fmt.Sprintf("%s, … (%d claims)", strings.Join(values, ", "), count)
	case count > 0:
		return strings.Join(values, ", ")
	}
	for _, i := range []issuer{byService, byPolicy, byCustom} {
		if issuers[i] {
			return "only claims issued by " + i.String()
		}
	}
	return "no such claim"
}

// issuedAs reports whether a claim meets the issuer that a condition names.
func issuedAs(c *condition, cl *claim) bool {
	for _, t := range c.tests {
		lit, ok := t.operand.(literal)
		if t.prop == propIssuer && ok && (cl.issuer.String() == lit.v.s) != (t.op == "==") {
			return false
		}
	}
	return true
}
