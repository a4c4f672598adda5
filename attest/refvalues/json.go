package refvalues

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloister-cc/cloister/attest/term"
)

// members reads a JSON object. Names are compared exactly, and duplicates and
// trailing bytes refused; encoding/json would take the last of several, in any
// case.
func members(raw []byte, known ...string) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not JSON")
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("member %q twice", clip(name))
		}
		if len(known) > 0 && !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown member %q, want %s", clip(name), strings.Join(known, ", "))
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, errors.New("not JSON")
		}
		out[name] = v
	}
	return out, nil
}

func clip(s string) string { return term.Clean(s, 64) }

// text reads a JSON string of at most most bytes; a member that is not there is
// an error.
func text(m map[string]json.RawMessage, name string, most int) (string, error) {
	raw, ok := m[name]
	if !ok {
		return "", fmt.Errorf("%s is missing", name)
	}
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil || len(s) > most {
		return "", fmt.Errorf("%s is not a text of at most %d bytes", name, most)
	}
	return s, nil
}

// list reads a JSON array.
func list(m map[string]json.RawMessage, name string, most int) ([]json.RawMessage, error) {
	raw := m[name]
	var out []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &out) != nil || len(out) == 0 || len(out) > most {
		return nil, fmt.Errorf("%s is not a list of 1 to %d", name, most)
	}
	return out, nil
}

// decodeBase64 reads either alphabet, padded or not: DSSE allows both.
func decodeBase64(s string) ([]byte, error) {
	e := base64.URLEncoding
	if strings.ContainsAny(s, "+/") {
		e = base64.StdEncoding
	}
	if !strings.HasSuffix(s, "=") {
		e = e.WithPadding(base64.NoPadding)
	}
	b, err := e.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not base64")
	}
	return b, nil
}
