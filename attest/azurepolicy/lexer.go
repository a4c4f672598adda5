package azurepolicy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokName
	tokText
	tokNumber
	tokSign // punctuation or operator
	tokBad  // reported already
)

type position struct{ line, col int }

func (p position) String() string { return fmt.Sprintf("%d:%d", p.line, p.col) }

type tok struct {
	kind tokenKind
	text string // value of a text, spelling of everything else
	at   position
}

// show is the token as an error message names it.
func (t tok) show() string {
	switch t.kind {
	case tokEnd:
		return "the end of the text"
	case tokText:
		return "a text"
	default:
		return fmt.Sprintf("%q", t.text)
	}
}

// signs are the punctuation and operators, longest first.
func signs() []string {
	return []string{"=>", "==", "!=", "<=", ">=", "=~", "!~", "&&", "=", "<", ">", "!", "[", "]", "{", "}", "(", ")", ",", ";", ":", ".", "-"}
}

type lexer struct {
	text   string
	at     int
	pos    position
	report func(position, string, string)
}

// lex cuts the text into tokens; the last is tokEnd. What it cannot read it
// reports and leaves out.
func lex(text string, report func(at position, reason, hint string)) []tok {
	l := lexer{text: text, pos: position{1, 1}, report: report}
	var out []tok
	for {
		t := l.next()
		if t.kind == tokBad {
			continue
		}
		if out = append(out, t); t.kind == tokEnd {
			return out
		}
	}
}

// skip advances by n bytes.
func (l *lexer) skip(n int) string {
	s := l.text[l.at : l.at+n]
	l.at += n
	for _, r := range s {
		if r == '\n' {
			l.pos = position{l.pos.line + 1, 1}
		} else {
			l.pos.col++
		}
	}
	return s
}

func (l *lexer) space() {
	for l.at < len(l.text) {
		switch rest := l.text[l.at:]; {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.skip(1)
		case strings.HasPrefix(rest, "//"): // as the samples of version 1.2 have them
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				l.skip(i + 1)
			} else {
				l.skip(len(rest))
			}
		default:
			return
		}
	}
}

func (l *lexer) next() tok {
	l.space()
	at := l.pos
	if l.at == len(l.text) {
		return tok{kind: tokEnd, at: at}
	}
	rest := l.text[l.at:]
	switch c := rest[0]; {
	case letter(c):
		n := 1
		for n < len(rest) && (letter(rest[n]) || digit(rest[n])) {
			n++
		}
		return tok{tokName, l.skip(n), at}
	case digit(c):
		n := 1
		for n < len(rest) && (letter(rest[n]) || digit(rest[n])) {
			n++ // letters for 0xFF; what else they make is refused where it is used
		}
		return tok{tokNumber, l.skip(n), at}
	case c == '"':
		return l.quoted(at)
	}
	for _, s := range signs() {
		if strings.HasPrefix(rest, s) {
			return tok{tokSign, l.skip(len(s)), at}
		}
	}
	r, n := utf8.DecodeRuneInString(rest)
	l.skip(n)
	hint := ""
	if strings.ContainsRune("“”„«»'`", r) {
		hint = `texts stand between plain double quotes: "`
	}
	l.report(at, fmt.Sprintf("the character %q has no meaning here", r), hint)
	return tok{kind: tokBad}
}

// quoted reads a text. A backslash stands before a quote or another backslash
// ("Claim rule functions", literal arguments); the pages know no other escape.
func (l *lexer) quoted(at position) tok {
	var b strings.Builder
	for i := l.at + 1; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case c == '"':
			l.skip(i + 1 - l.at)
			return tok{tokText, b.String(), at}
		case c == '\\':
			if i+1 >= len(l.text) || l.text[i+1] != '"' && l.text[i+1] != '\\' {
				l.report(at, `a backslash in this text stands before neither " nor \`, `write \\ for a backslash`)
				if i+1 < len(l.text) && l.text[i+1] >= ' ' && l.text[i+1] < utf8.RuneSelf {
					i++
				}
				continue
			}
			i++
			b.WriteByte(l.text[i])
		case c < ' ' || c == 0x7F:
			l.report(at, "this text is not closed on its line", `end it with "`)
			l.skip(i - l.at)
			return tok{tokText, b.String(), at}
		default:
			b.WriteByte(c)
		}
	}
	l.report(at, "this text is not closed", `end it with "`)
	l.skip(len(l.text) - l.at)
	return tok{tokText, b.String(), at}
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }
