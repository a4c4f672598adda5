package jmespath

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// power is how strongly a token binds what is left of it (JMESPath grammar,
// "operator precedence").
func power(k kind) int {
	switch k {
	case tPipe:
		return 1
	case tOr:
		return 2
	case tAnd:
		return 3
	case tCompare:
		return 5
	case tFlatten:
		return 9
	case tStar:
		return 20
	case tFilter:
		return 21
	case tDot:
		return 40
	case tNot:
		return 45
	case tLBracket:
		return 55
	case tLParen:
		return 60
	default:
		return 0
	}
}

// projectionStop: tokens that bind weaker than this end a projection.
const projectionStop = 10

type parser struct {
	tokens []token
	at     int
	depth  int
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tEnd {
		p.at++
	}
	return t
}

func (p *parser) expect(k kind, what string) error {
	if t := p.peek(); t.kind != k {
		return &SyntaxError{t.at, "want " + what}
	}
	p.next()
	return nil
}

func (p *parser) unexpected(t token) error {
	if t.kind == tEnd {
		return &SyntaxError{t.at, "the query ends too early"}
	}
	if t.kind == tNumber {
		return &SyntaxError{t.at, fmt.Sprintf("a number is written between backticks: `%s`", t.text)}
	}
	return &SyntaxError{t.at, fmt.Sprintf("%q is not expected here", t.text)}
}

// expression parses what binds stronger than bp.
func (p *parser) expression(bp int) (node, error) {
	if p.depth++; p.depth > MaxDepth {
		return nil, &SyntaxError{p.peek().at, fmt.Sprintf("nested deeper than %d", MaxDepth)}
	}
	defer func() { p.depth-- }()
	left, err := p.prefix(p.next())
	for err == nil && power(p.peek().kind) > bp {
		left, err = p.infix(left, p.next())
	}
	return left, err
}

func (p *parser) prefix(t token) (node, error) {
	switch t.kind {
	case tField:
		if p.peek().kind == tLParen {
			return p.call(t)
		}
		return field{t.text}, nil
	case tQuoted:
		return field{t.text}, nil
	case tRaw, tLiteral:
		return literal{t.val}, nil
	case tAt:
		return current{}, nil
	case tStar:
		right, err := p.projected(power(tStar))
		return valuesOf{current{}, right}, err
	case tFilter, tFlatten:
		return p.infix(current{}, t)
	case tLBracket:
		if k := p.peek().kind; k == tNumber || k == tColon || k == tStar && p.tokens[p.at+1].kind == tRBracket {
			return p.infix(current{}, t)
		}
		return p.list()
	case tLBrace:
		return p.hash()
	case tNot:
		x, err := p.expression(power(tNot))
		return not{x}, err
	case tLParen:
		x, err := p.expression(0)
		if err == nil {
			err = p.expect(tRParen, `")"`)
		}
		return x, err
	case tAmp:
		return nil, &SyntaxError{t.at, "expression references (&) are not supported"}
	default:
		return nil, p.unexpected(t)
	}
}

func (p *parser) infix(left node, t token) (node, error) {
	switch t.kind {
	case tDot:
		if p.peek().kind == tStar {
			p.next()
			right, err := p.projected(power(tStar))
			return valuesOf{left, right}, err
		}
		right, err := p.afterDot(power(tDot))
		return sub{left, right}, err
	case tPipe:
		right, err := p.expression(power(tPipe))
		return sub{left, right}, err
	case tOr:
		right, err := p.expression(power(tOr))
		return either{left, right}, err
	case tAnd:
		right, err := p.expression(power(tAnd))
		return both{left, right}, err
	case tCompare:
		right, err := p.expression(power(tCompare))
		return compare{t.text, left, right}, err
	case tFlatten:
		right, err := p.projected(power(tFlatten))
		return projection{flatten{left}, right}, err
	case tFilter:
		return p.filter(left)
	case tLBracket:
		return p.bracket(left)
	default:
		return nil, p.unexpected(t)
	}
}

func (p *parser) filter(left node) (node, error) {
	cond, err := p.expression(0)
	if err == nil {
		err = p.expect(tRBracket, `"]" at the end of the filter`)
	}
	if err != nil {
		return nil, err
	}
	if p.peek().kind == tFlatten {
		return filter{left, current{}, cond}, nil
	}
	right, err := p.projected(power(tFilter))
	return filter{left, right, cond}, err
}

// bracket parses what follows "[" after an expression: an index or "*".
func (p *parser) bracket(left node) (node, error) {
	t := p.next()
	switch t.kind {
	case tNumber:
		if p.peek().kind == tColon {
			return nil, &SyntaxError{t.at, "slices ([a:b]) are not supported"}
		}
		i, err := strconv.Atoi(t.text)
		if err != nil {
			return nil, &SyntaxError{t.at, "not an index"}
		}
		return index{left, i}, p.expect(tRBracket, `"]" after the index`)
	case tStar:
		if err := p.expect(tRBracket, `"]" after "*"`); err != nil {
			return nil, err
		}
		right, err := p.projected(power(tStar))
		return projection{left, right}, err
	case tColon:
		return nil, &SyntaxError{t.at, "slices ([a:b]) are not supported"}
	default:
		return nil, &SyntaxError{t.at, `want an index, "*" or a filter between "[" and "]"`}
	}
}

// projected parses what a projection applies to each element.
func (p *parser) projected(bp int) (node, error) {
	t := p.peek()
	if power(t.kind) < projectionStop {
		return current{}, nil
	}
	switch t.kind {
	case tLBracket, tFilter:
		return p.expression(bp)
	case tDot:
		p.next()
		return p.afterDot(bp)
	default:
		return nil, p.unexpected(t)
	}
}

func (p *parser) afterDot(bp int) (node, error) {
	switch t := p.peek(); t.kind {
	case tField, tQuoted, tStar:
		return p.expression(bp)
	case tLBracket:
		p.next()
		return p.list()
	case tLBrace:
		p.next()
		return p.hash()
	default:
		return nil, &SyntaxError{t.at, `want a name after "."`}
	}
}

func (p *parser) list() (node, error) {
	items, err := p.items(tRBracket, `"," or "]"`)
	if err == nil && len(items) == 0 {
		err = &SyntaxError{p.peek().at, "an empty list selects nothing"}
	}
	return list{items}, err
}

// items parses expressions up to the closing token.
func (p *parser) items(end kind, want string) ([]node, error) {
	var out []node
	for p.peek().kind != end {
		if len(out) > 0 {
			if err := p.expect(tComma, want); err != nil {
				return nil, err
			}
		}
		x, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	p.next()
	return out, nil
}

func (p *parser) hash() (node, error) {
	var h hash
	for {
		t := p.next()
		if t.kind != tField && t.kind != tQuoted {
			return nil, &SyntaxError{t.at, "want a member's name"}
		}
		if slices.Contains(h.names, t.text) {
			return nil, &SyntaxError{t.at, fmt.Sprintf("member %q twice", t.text)}
		}
		if err := p.expect(tColon, `":" after the member's name`); err != nil {
			return nil, err
		}
		x, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		h.names, h.items = append(h.names, t.text), append(h.items, x)
		if p.peek().kind == tRBrace {
			p.next()
			return h, nil
		}
		if err := p.expect(tComma, `"," or "}"`); err != nil {
			return nil, err
		}
	}
}

func (p *parser) call(name token) (node, error) {
	p.next() // "("
	fn, ok := lookup(name.text)
	if !ok {
		return nil, &SyntaxError{name.at, fmt.Sprintf("the function %s is not supported; there are %s", name.text, strings.Join(Functions(), ", "))}
	}
	args, err := p.items(tRParen, `"," or ")"`)
	if err != nil {
		return nil, err
	}
	if len(args) < fn.least || fn.most > 0 && len(args) > fn.most {
		return nil, &SyntaxError{name.at, fmt.Sprintf("%s takes %s", name.text, fn.takes())}
	}
	return call{fn, args}, nil
}
