package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// SplitObject returns the members of one JSON object as they stand, and refuses what
// [DecodeExact] refuses of it: names that are not among those given, names twice, and
// bytes after it. What is inside of members that are objects or lists is valid JSON,
// and nothing more is known of it. It is for objects that hold evidence, for it does
// not go through a long text byte by byte as often as encoding/json does (compare
// BenchmarkSplitObject). The result shares its memory with b.
func SplitObject(b []byte, names ...string) (map[string]json.RawMessage, error) {
	s := splitter{b: b}
	if s.next() != '{' {
		return nil, errors.New("not a JSON object")
	}
	s.at++
	out := map[string]json.RawMessage{}
	for more := s.next() != '}'; more; {
		name, value, err := s.member()
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("member %.64q twice at offset %d", name, s.at)
		}
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("unknown member %.64q at offset %d", name, s.at)
		}
		out[name] = value
		switch s.next() {
		case ',':
			s.at++
		case '}':
			more = false
		default:
			return nil, s.invalid()
		}
	}
	s.at++
	if s.next(); s.at < len(b) {
		return nil, fmt.Errorf("bytes after the value, at offset %d", s.at)
	}
	return out, nil
}

// Text reads a JSON string, or null, which is an empty one, as encoding/json does.
func Text(raw json.RawMessage) (string, error) {
	if n := len(raw); n >= 2 && raw[0] == '"' && plain(raw) && utf8.Valid(raw) {
		return string(raw[1 : n-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errors.New("not a JSON string")
	}
	return s, nil
}

// splitter goes through bytes that may be anything.
type splitter struct {
	b  []byte
	at int
}

func (s *splitter) invalid() error { return fmt.Errorf("not JSON at offset %d", s.at) }

// next steps over space and returns the byte there, 0 at the end.
func (s *splitter) next() byte {
	for ; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// member reads a name and a value.
func (s *splitter) member() (name string, value json.RawMessage, err error) {
	if s.next() != '"' {
		return "", nil, s.invalid()
	}
	raw, err := s.value()
	if err != nil {
		return "", nil, err
	}
	if name, err = Text(raw); err != nil {
		return "", nil, s.invalid()
	}
	if s.next() != ':' {
		return "", nil, s.invalid()
	}
	s.at++
	s.next()
	value, err = s.value()
	return name, value, err
}

// value reads a value, which is valid JSON.
func (s *splitter) value() (json.RawMessage, error) {
	start := s.at
	s.at = s.end()
	raw := s.b[start:s.at:s.at]
	// A string whose end was found, without escapes and control characters, is valid.
	if n := len(raw); n >= 2 && raw[0] == '"' && raw[n-1] == '"' && plain(raw) || json.Valid(raw) {
		return raw, nil
	}
	s.at = start
	return nil, s.invalid()
}

// end is where the value that begins here ends, if it is one.
func (s *splitter) end() int {
	depth := 0
	for at := s.at; at < len(s.b); at++ {
		switch s.b[at] {
		case '"':
			at = closing(s.b, at)
			if depth == 0 {
				return min(at+1, len(s.b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
			if depth < 0 {
				return at
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return at
			}
		}
	}
	return len(s.b)
}

// closing is where the string that begins at start has its second quotation mark, or
// the end of b.
func closing(b []byte, start int) int {
	for at := start + 1; at < len(b); at++ {
		n := bytes.IndexByte(b[at:], '"')
		if n < 0 {
			break
		}
		at += n
		escapes := at
		for b[escapes-1] == '\\' { // ends at the first mark, if not before
			escapes--
		}
		if (at-escapes)%2 == 0 {
			return at
		}
	}
	return len(b)
}

// plain reports whether a string stands for what is between its quotation marks: it
// has no escapes, marks or control characters.
func plain(raw []byte) bool {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') >= 0 || bytes.IndexByte(inner, '"') >= 0 {
		return false
	}
	for _, c := range inner {
		if c < ' ' {
			return false
		}
	}
	return true
}
