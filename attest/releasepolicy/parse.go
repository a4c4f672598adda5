package releasepolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-cc/cloister/attest/term"
)

// Parse reads a release policy. It refuses what encoding/json lets pass:
// unknown, duplicate and differently cased members, and bytes after the policy.
// Names are written as in the grammar's examples: anyOf and allOf, not the anyof
// and allof of its EBNF.
func Parse(b []byte) (*Policy, error) {
	if len(b) > MaxPolicy {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(b), MaxPolicy)
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrPolicy)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	p := parser{d: d, text: b}
	policy, err := p.policy()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return policy, nil
}

type parser struct {
	d     *json.Decoder
	text  []byte
	terms int
}

// count takes one term of the policy's allowance.
func (p *parser) count(at string) error {
	if p.terms++; p.terms > MaxTerms {
		return p.fail(at, "more than %d terms", MaxTerms)
	}
	return nil
}

func (p *parser) policy() (*Policy, error) {
	var out Policy
	version, given := "", false
	err := p.object("", func(name, at string) (err error) {
		switch name {
		case "version":
			version, err = p.str(at, 64)
		case "anyOf", "allOf":
			// The grammar has anyOf only; the second example for AMD SEV-SNP has allOf.
			if given {
				return p.fail(at, "anyOf and allOf stand alone")
			}
			given = true
			out.root = group{at: at, all: name == "allOf"}
			out.root.terms, err = p.list(at, 1, p.statement)
		default:
			err = p.unknown(name, at, "version, anyOf")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft(p.text[p.d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, p.fail("", "bytes after the policy")
	}
	if version != Version {
		return nil, p.fail("/version", "want version %q", Version)
	}
	if !given {
		return nil, p.fail("/anyOf", "name the authorities: a policy without any releases nothing")
	}
	out.digest = digest(out.String())
	return &out, nil
}

// unknown refuses a member, with a hint where only the case is wrong.
func (p *parser) unknown(name, at, want string) error {
	hint := ""
	for _, known := range []string{"version", "anyOf", "allOf", "authority", "claim"} {
		if strings.EqualFold(known, name) && known != name {
			hint = fmt.Sprintf("; it is spelled %s", known)
		}
	}
	return p.fail(at, "unknown member %q, want %s%s", term.Clean(name, 64), want, hint)
}

// list reads a list of terms that is not empty.
func (p *parser) list(at string, depth int, item func(at string, depth int) (node, error)) ([]node, error) {
	if depth > MaxDepth {
		return nil, p.fail(at, "nested deeper than %d", MaxDepth)
	}
	t, err := p.token(at)
	if err != nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, p.fail(at, "want a list")
	}
	var out []node
	for p.d.More() {
		here := at + "/" + strconv.Itoa(len(out))
		if err := p.count(here); err != nil {
			return nil, err
		}
		n, err := item(here, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	if _, err := p.token(at); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, p.fail(at, "an empty list: name at least one")
	}
	return out, nil
}

// statement = { "authority": …, "anyOf" or "allOf": […] }
func (p *parser) statement(at string, depth int) (node, error) {
	s := statement{at: at}
	err := p.object(at, func(name, at string) (err error) {
		switch name {
		case "authority":
			if s.authority, err = p.str(at, MaxAuthority); err == nil {
				s.authority, err = p.checkAuthority(s.authority, at)
			}
		case "anyOf", "allOf":
			err = p.group(&s.group, name, at, depth)
		default:
			err = p.unknown(name, at, "authority and one of anyOf, allOf")
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case s.authority == "":
		return nil, p.fail(at+"/authority", "name the authority: the issuer of the token")
	case len(s.group.terms) == 0:
		return nil, p.fail(at, "want anyOf or allOf with conditions")
	}
	return &s, nil
}

// checkAuthority returns an authority in the form that is compared.
func (p *parser) checkAuthority(s, at string) (string, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) || trimSlash(s) == "" {
		return "", p.fail(at, "an authority is a URL or a name, without spaces")
	}
	if strings.HasSuffix(trimSlash(s), "/") { // written down again, it would mean another
		return "", p.fail(at, "an authority ends in one slash at most")
	}
	return trimSlash(s), nil
}

// trimSlash takes one slash off the end. Microsoft's examples write the same
// authority with and without it, and the issuer in its tokens has none.
func trimSlash(s string) string { return strings.TrimSuffix(s, "/") }

func (p *parser) group(g *group, name, at string, depth int) (err error) {
	if len(g.terms) > 0 {
		return p.fail(at, "anyOf and allOf are not allowed together")
	}
	g.at, g.all = at, name == "allOf"
	g.terms, err = p.list(at, depth+1, p.condition)
	return err
}

// condition = { "claim": …, operator: value } or a group
func (p *parser) condition(at string, depth int) (node, error) {
	c, g := condition{at: at, op: operatorCount}, group{}
	err := p.object(at, func(name, at string) (err error) {
		switch name {
		case "claim":
			if c.claim, err = p.str(at, MaxClaimName); err == nil && strings.Count(c.claim, ".") > MaxDots {
				err = p.fail(at, "more than %d dots in a claim's name", MaxDots)
			}
		case "anyOf", "allOf":
			err = p.group(&g, name, at, depth)
		default:
			err = p.comparison(&c, name, at)
		}
		return err
	})
	isClaim := c.claim != "" || c.op != operatorCount
	switch {
	case err != nil:
		return nil, err
	case len(g.terms) > 0 && isClaim:
		return nil, p.fail(at, "a claim beside anyOf or allOf: write two conditions")
	case len(g.terms) > 0:
		return &g, nil
	case c.claim == "":
		return nil, p.fail(at+"/claim", "name the claim, or write anyOf or allOf")
	case c.op == operatorCount:
		return nil, p.fail(at, "want a comparison: equals, notEquals, less, lessOrEquals, greater, greaterOrEquals or exists")
	}
	return &c, nil
}

func (p *parser) comparison(c *condition, name, at string) error {
	op := operatorCount
	for o := range operatorCount {
		if name == o.String() {
			op = o
		}
	}
	if op == operatorCount {
		return p.unknown(name, at, "claim and one of equals, notEquals, less, lessOrEquals, greater, greaterOrEquals, exists")
	}
	if c.op != operatorCount {
		return p.fail(at, "two comparisons in one condition: write two conditions")
	}
	t, err := p.token(at)
	if err != nil {
		return err
	}
	c.op = op
	switch v := t.(type) {
	case bool:
		c.want = boolValue(v)
	case string:
		if len(v) > MaxString {
			return p.fail(at, "a text of %d bytes, at most %d", len(v), MaxString)
		}
		c.want = value{kind: text, s: v}
	case json.Number:
		if c.want, err = numberValue(string(v)); err != nil {
			return p.fail(at, "%v", err)
		}
	default:
		return p.fail(at, "want a text, a number, true or false")
	}
	if op == exists && c.want.kind != boolean {
		return p.fail(at, "exists wants true or false, without quotes")
	}
	if op.ordered() && c.want.kind != number {
		return p.fail(at, "%s compares numbers", op)
	}
	return nil
}
