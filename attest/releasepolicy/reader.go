package releasepolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cloister-cc/cloister/attest/term"
)

// fail makes an error with the place: the JSON pointer and where reading stands.
func (p *parser) fail(at, format string, a ...any) error {
	read := p.text[:min(int(p.d.InputOffset()), len(p.text))]
	line := 1 + bytes.Count(read, []byte("\n"))
	col := 1 + utf8.RuneCount(read[bytes.LastIndexByte(read, '\n')+1:])
	if at == "" {
		at = "/"
	}
	return fmt.Errorf("%s (line %d, column %d): %s", term.Clean(at, term.MaxValue), line, col, fmt.Sprintf(format, a...))
}

// token reads the next token; a syntax error tells where it is.
func (p *parser) token(at string) (json.Token, error) {
	t, err := p.d.Token()
	if err == nil {
		return t, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, p.fail(at, "the JSON ends too early")
	}
	return nil, p.fail(at, "not JSON: %s", term.Clean(err.Error(), term.MaxValue))
}

// object reads an object and calls member for each of its members.
func (p *parser) object(at string, member func(name, at string) error) error {
	t, err := p.token(at)
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return p.fail(at, "want an object")
	}
	seen := map[string]bool{}
	for p.d.More() {
		t, err := p.token(at)
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return p.fail(at, "want a member's name")
		}
		if seen[name] {
			return p.fail(at, "member %q twice", term.Clean(name, 64))
		}
		seen[name] = true
		if err := member(name, at+"/"+escape(name)); err != nil {
			return err
		}
	}
	_, err = p.token(at)
	return err
}

// escape spells a name in a JSON pointer (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// str reads a string of 1 to most bytes.
func (p *parser) str(at string, most int) (string, error) {
	t, err := p.token(at)
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok || s == "" || len(s) > most {
		return "", p.fail(at, "want a text of 1 to %d bytes", most)
	}
	return s, nil
}
