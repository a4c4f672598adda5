package attest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// maxJSONDepth bounds the nesting of JSON that others wrote.
const maxJSONDepth = 16

// DecodeStrict reads one JSON value into v and refuses what encoding/json lets
// pass: unknown, duplicate and differently cased members (it matches names
// without regard to case and takes the last), deep nesting, and bytes after
// the value. It is for policies and other documents in which a typing mistake
// must not be read as something else.
func DecodeStrict(b []byte, v any) error { return DecodeStrictNamed(b, v, plainName) }

// DecodeStrictNamed is [DecodeStrict] for documents whose member names are not
// ours: allowed says which it takes for one. Names that differ from those of v's
// fields in letter case only must not be among them.
func DecodeStrictNamed(b []byte, v any, allowed func(string) bool) error {
	if err := decodeKnown(b, v); err != nil {
		return cmp.Or(checkMembers(b, allowed), err) // the former says more
	}
	return walkMembers(b, allowed)
}

// DecodeExact is [DecodeStrictNamed] with a list of names.
func DecodeExact(b []byte, v any, names ...string) error {
	return DecodeStrictNamed(b, v, func(s string) bool { return slices.Contains(names, s) })
}

// CheckJSONObject refuses what is not one JSON object with each member once, not
// nested deeply, and nothing behind it: for JSON that is passed on as it is.
func CheckJSONObject(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return errors.New("not a JSON object")
	}
	return checkMembers(b, func(string) bool { return true })
}

// decodeKnown refuses unknown members and bytes after the value, and nothing
// else; see [checkMembers].
func decodeKnown(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if rest := bytes.TrimLeft(b[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("bytes after the value, at offset %d", len(b)-len(rest))
	}
	return nil
}

// checkMembers walks the value and refuses duplicate member names, names that
// allowed refuses, nesting beyond maxJSONDepth and trailing bytes.
func checkMembers(b []byte, allowed func(string) bool) error {
	if !json.Valid(b) {
		var v json.RawMessage
		return fmt.Errorf("not JSON: %w", json.Unmarshal(b, &v)) // which says where
	}
	return walkMembers(b, allowed)
}

// walkMembers is checkMembers for bytes that are known to be valid JSON. It is
// done for every request, so it does not build the tokens that it throws away.
func walkMembers(b []byte, allowed func(string) bool) error {
	w := memberWalk{b: b, allowed: allowed}
	for w.at < len(b) {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// memberWalk goes through bytes that are valid JSON.
type memberWalk struct {
	b       []byte
	at      int
	allowed func(string) bool
	open    []map[string]bool // names seen in each open object; nil for an array
	name    bool              // the next string is a member's name
}

func (w *memberWalk) step() error {
	c := w.b[w.at]
	if c == '"' {
		return w.text()
	}
	w.at++
	switch c {
	case '{', '[':
		if len(w.open) >= maxJSONDepth {
			return fmt.Errorf("nested deeper than %d at offset %d", maxJSONDepth, w.at)
		}
		var seen map[string]bool
		if w.name = c == '{'; w.name {
			seen = map[string]bool{}
		}
		w.open = append(w.open, seen)
	case '}', ']':
		w.open = w.open[:len(w.open)-1]
		w.name = false
	case ',':
		w.name = w.open[len(w.open)-1] != nil
	}
	return nil
}

// text steps over a string; a member's name is checked.
func (w *memberWalk) text() error {
	start := w.at
	w.at = closing(w.b, start) + 1
	if !w.name {
		return nil
	}
	w.name = false
	var s string
	if err := json.Unmarshal(w.b[start:w.at], &s); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	seen := w.open[len(w.open)-1]
	if seen[s] {
		return fmt.Errorf("member %q twice at offset %d", s, w.at)
	}
	if !w.allowed(s) {
		return fmt.Errorf("unknown member %q at offset %d", s, w.at)
	}
	seen[s] = true
	return nil
}

// plainName reports whether s is lower-case ASCII, as all our member names are.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}
