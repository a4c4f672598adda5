package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxJSONDepth bounds the nesting of JSON that others wrote.
const maxJSONDepth = 16

// decodeStrict reads one JSON value into v and refuses what encoding/json lets
// pass: unknown, duplicate and differently cased members (it matches names
// without regard to case and takes the last), deep nesting, and bytes after
// the value.
func decodeStrict(b []byte, v any) error {
	if err := checkMembers(b, plainName); err != nil {
		return err
	}
	return decodeKnown(b, v)
}

// decodeKnown refuses unknown members and nothing else; see [checkMembers].
func decodeKnown(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// checkMembers walks the value and refuses duplicate member names, names that
// allowed refuses, nesting beyond maxJSONDepth and trailing bytes.
func checkMembers(b []byte, allowed func(string) bool) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := walkValue(d, allowed, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("bytes after the JSON value at offset %d", d.InputOffset())
	}
	return nil
}

func walkValue(d *json.Decoder, allowed func(string) bool, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("nested deeper than %d at offset %d", maxJSONDepth, d.InputOffset())
	}
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %v", err)
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return fmt.Errorf("not JSON: %v", err)
			}
			s, _ := name.(string)
			if seen[s] {
				return fmt.Errorf("member %q twice at offset %d", s, d.InputOffset())
			}
			if !allowed(s) {
				return fmt.Errorf("unknown member %q at offset %d", s, d.InputOffset())
			}
			seen[s] = true
		}
		if err := walkValue(d, allowed, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("not JSON: %v", err)
	}
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
