// Package flatjson reads JSON objects whose values are strings, booleans and
// arrays of strings. That is all that a Wasm module's runtime tells it, and
// encoding/json would make every module a megabyte larger.
//
// # What it protects against
//
// Malformed input: anything else than such an object is refused, duplicate keys
// included.
//
// # What it does not protect against
//
// The runtime, which a module trusts anyway.
package flatjson

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrSyntax means that the input is not a flat JSON object.
var ErrSyntax = errors.New("not a flat JSON object")

// Object holds the values of one object by name. The methods return the zero
// value for a name that is missing or of another type.
type Object map[string]any // string, bool or []string

// String returns a string.
func (o Object) String(name string) string { s, _ := o[name].(string); return s }

// Bool returns a boolean.
func (o Object) Bool(name string) bool { b, _ := o[name].(bool); return b }

// List returns an array of strings.
func (o Object) List(name string) []string { l, _ := o[name].([]string); return l }

// Parse reads an object.
func Parse(b []byte) (Object, error) {
	p := &parser{rest: b}
	o := p.object()
	p.space()
	if p.failed || len(p.rest) > 0 {
		return nil, ErrSyntax
	}
	return o, nil
}

// parser reads from the front of rest. After a failure it reads nothing more.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) fail() { p.rest, p.failed = nil, true }

func (p *parser) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\t' || p.rest[0] == '\r') {
		p.rest = p.rest[1:]
	}
}

// next skips white space and returns the byte after it, 0 at the end.
func (p *parser) next() byte {
	p.space()
	if len(p.rest) == 0 {
		return 0
	}
	return p.rest[0]
}

// take consumes text if it comes next.
func (p *parser) take(text string) bool {
	p.space()
	if len(p.rest) < len(text) || string(p.rest[:len(text)]) != text {
		return false
	}
	p.rest = p.rest[len(text):]
	return true
}

func (p *parser) want(text string) {
	if !p.take(text) {
		p.fail()
	}
}

func (p *parser) object() Object {
	o := Object{}
	p.want("{")
	if p.take("}") {
		return o
	}
	for !p.failed {
		name := p.str()
		p.want(":")
		if _, twice := o[name]; twice {
			p.fail()
		}
		o[name] = p.value()
		if p.take("}") {
			return o
		}
		p.want(",")
	}
	return nil
}

func (p *parser) value() any {
	switch {
	case p.next() == '"':
		return p.str()
	case p.take("true"):
		return true
	case p.take("false"):
		return false
	case p.next() == '[':
		return p.list()
	}
	p.fail()
	return nil
}

func (p *parser) list() []string {
	list := []string{}
	p.want("[")
	if p.take("]") {
		return list
	}
	for !p.failed {
		list = append(list, p.str())
		if p.take("]") {
			return list
		}
		p.want(",")
	}
	return nil
}

func (p *parser) str() string {
	p.want(`"`)
	var out []byte
	for len(p.rest) > 0 {
		c := p.rest[0]
		switch {
		case c == '"':
			p.rest = p.rest[1:]
			return string(out)
		case c == '\\':
			out = p.escape(out)
		case c < ' ':
			p.fail()
		default:
			r, n := utf8.DecodeRune(p.rest)
			out = utf8.AppendRune(out, r)
			p.rest = p.rest[n:]
		}
	}
	p.fail()
	return ""
}

const (
	escapes  = `"\/bfnrt`
	meanings = "\"\\/\b\f\n\r\t"
)

// escape reads a backslash and what it stands for.
func (p *parser) escape(out []byte) []byte {
	if len(p.rest) < 2 {
		p.fail()
		return nil
	}
	for i := range len(escapes) {
		if p.rest[1] == escapes[i] {
			p.rest = p.rest[2:]
			return append(out, meanings[i])
		}
	}
	r := p.unit()
	if utf16.IsSurrogate(r) {
		before := *p
		if full := utf16.DecodeRune(r, p.unit()); full != utf8.RuneError {
			return utf8.AppendRune(out, full)
		}
		*p, r = before, utf8.RuneError
	}
	return utf8.AppendRune(out, r)
}

// unit reads \uXXXX.
func (p *parser) unit() rune {
	if len(p.rest) < 6 || p.rest[0] != '\\' || p.rest[1] != 'u' || p.rest[2] == '+' || p.rest[2] == '-' {
		p.fail()
		return utf8.RuneError
	}
	v, err := strconv.ParseUint(string(p.rest[2:6]), 16, 16)
	if err != nil {
		p.fail()
		return utf8.RuneError
	}
	p.rest = p.rest[6:]
	return rune(v)
}
