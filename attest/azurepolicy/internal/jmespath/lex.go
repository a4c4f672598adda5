package jmespath

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type kind uint8

const (
	tEnd kind = iota
	tField
	tQuoted
	tRaw
	tLiteral
	tNumber
	tDot
	tStar
	tFlatten
	tFilter
	tLBracket
	tRBracket
	tLBrace
	tRBrace
	tLParen
	tRParen
	tComma
	tColon
	tAt
	tAmp
	tPipe
	tOr
	tAnd
	tNot
	tCompare
)

type token struct {
	kind kind
	text string // name, number, operator
	val  any    // of a literal
	at   int
}

// fixed are the tokens that are always spelled the same, longest first.
var fixed = [...]struct {
	text string
	kind kind
}{
	{"[?", tFilter}, {"[]", tFlatten}, {"||", tOr}, {"&&", tAnd},
	{"==", tCompare}, {"!=", tCompare}, {"<=", tCompare}, {">=", tCompare},
	{"<", tCompare}, {">", tCompare}, {"[", tLBracket}, {"]", tRBracket},
	{"{", tLBrace}, {"}", tRBrace}, {"(", tLParen}, {")", tRParen},
	{".", tDot}, {"*", tStar}, {",", tComma}, {":", tColon}, {"@", tAt},
	{"&", tAmp}, {"|", tPipe}, {"!", tNot},
}

func lex(query string) ([]token, error) {
	if query == "" {
		return nil, &SyntaxError{0, "the query is empty"}
	}
	if len(query) > MaxQuery {
		return nil, &SyntaxError{0, fmt.Sprintf("the query has %d bytes, at most %d", len(query), MaxQuery)}
	}
	if !utf8.ValidString(query) {
		return nil, &SyntaxError{0, "the query is not UTF-8"}
	}
	var out []token
	for at := 0; at < len(query); {
		if strings.IndexByte(" \t\r\n", query[at]) >= 0 {
			at++
			continue
		}
		t, next, err := lexOne(query, at)
		if err != nil {
			return nil, err
		}
		if out = append(out, t); len(out) > MaxTokens {
			return nil, &SyntaxError{at, fmt.Sprintf("more than %d tokens", MaxTokens)}
		}
		at = next
	}
	return append(out, token{kind: tEnd, at: len(query)}), nil
}

func lexOne(q string, at int) (token, int, error) {
	switch c := q[at]; {
	case isLetter(c):
		end := at
		for end < len(q) && (isLetter(q[end]) || isDigit(q[end])) {
			end++
		}
		return token{kind: tField, text: q[at:end], at: at}, end, nil
	case isDigit(c), c == '-':
		end := at + 1
		for end < len(q) && isDigit(q[end]) {
			end++
		}
		if end-at > 10 || q[at:end] == "-" {
			return token{}, 0, &SyntaxError{at, "not an index"}
		}
		return token{kind: tNumber, text: q[at:end], at: at}, end, nil
	case c == '"':
		text, end, err := delimited(q, at, '"')
		if err != nil {
			return token{}, 0, err
		}
		budget := len(text) + 1
		v, err := Decode(`"`+text+`"`, &budget)
		if err != nil {
			return token{}, 0, &SyntaxError{at, "a quoted name is written like a string of JSON"}
		}
		name, _ := v.(string)
		return token{kind: tQuoted, text: name, at: at}, end, nil
	case c == '\'':
		text, end, err := delimited(q, at, '\'')
		return token{kind: tRaw, val: strings.ReplaceAll(text, `\'`, `'`), at: at}, end, err
	case c == '`':
		return lexLiteral(q, at)
	}
	for _, f := range fixed {
		if strings.HasPrefix(q[at:], f.text) {
			return token{kind: f.kind, text: f.text, at: at}, at + len(f.text), nil
		}
	}
	r, _ := utf8.DecodeRuneInString(q[at:])
	return token{}, 0, &SyntaxError{at, fmt.Sprintf("%q has no meaning here; a name with such characters is quoted: \"a-b\"", r)}
}

func lexLiteral(q string, at int) (token, int, error) {
	text, end, err := delimited(q, at, '`')
	if err != nil {
		return token{}, 0, err
	}
	text = strings.ReplaceAll(text, "\\`", "`")
	budget := len(text) + 1
	v, err := Decode(text, &budget)
	if err != nil {
		return token{}, 0, &SyntaxError{at, "a literal between ` and ` is JSON: `1`, `true`, `\"text\"`"}
	}
	return token{kind: tLiteral, val: v, at: at}, end, nil
}

// delimited returns what is between the quotes, escapes untouched.
func delimited(q string, at int, quote byte) (text string, end int, err error) {
	for i := at + 1; i < len(q); i++ {
		switch q[i] {
		case '\\':
			i++
		case quote:
			return q[at+1 : i], i + 1, nil
		}
	}
	return "", 0, &SyntaxError{at, fmt.Sprintf("%c is not closed", quote)}
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
