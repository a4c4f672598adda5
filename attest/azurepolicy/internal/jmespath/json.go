package jmespath

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Decode reads one JSON value into nil, bool, string, [json.Number], []any and
// map[string]any. It refuses duplicate members, deep nesting and bytes after the
// value; a document that two readers can read differently proves nothing.
func Decode(text string, budget *int) (any, error) {
	if *budget -= len(text) / 16; *budget < 0 {
		*budget = 0
		return nil, ErrBudget
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("not JSON: not UTF-8")
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	r := reader{d: d, budget: budget}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if rest := strings.TrimLeft(text[d.InputOffset():], " \t\r\n"); rest != "" {
		return nil, errors.New("not JSON: more follows the value")
	}
	return v, nil
}

type reader struct {
	d      *json.Decoder
	budget *int
}

func (r *reader) value(depth int) (any, error) {
	if depth > MaxJSON {
		return nil, fmt.Errorf("JSON nested deeper than %d", MaxJSON)
	}
	if *r.budget--; *r.budget < 0 {
		*r.budget = 0
		return nil, ErrBudget
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, errors.New("not JSON")
	}
	switch t {
	case json.Delim('['):
		out := []any{}
		for r.d.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, r.end()
	case json.Delim('{'):
		return r.object(depth)
	}
	return t, nil
}

func (r *reader) object(depth int) (any, error) {
	out := map[string]any{}
	for r.d.More() {
		t, err := r.d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not JSON")
		}
		if _, twice := out[name]; twice {
			return nil, errors.New("JSON with a member twice")
		}
		if out[name], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return out, r.end()
}

// end reads the closing bracket; the decoder sees to it that it is the right one.
func (r *reader) end() error {
	if _, err := r.d.Token(); err != nil {
		return errors.New("not JSON")
	}
	return nil
}

// Encode writes a value of Decode or Search as JSON without spaces, members in
// the order of their names. Values of a search can share parts many times over,
// so the work is taken off budget.
func Encode(v any, budget *int) (string, error) {
	w := writer{budget: budget}
	if err := w.value(v); err != nil {
		return "", err
	}
	return w.b.String(), nil
}

type writer struct {
	b      strings.Builder
	budget *int
}

func (w *writer) value(v any) error {
	if *w.budget--; *w.budget < 0 {
		*w.budget = 0
		return ErrBudget
	}
	switch v := v.(type) {
	case nil:
		w.b.WriteString("null")
	case bool:
		fmt.Fprint(&w.b, v)
	case json.Number:
		w.b.WriteString(string(v))
	case string:
		return w.text(v)
	case []any:
		w.b.WriteByte('[')
		for i, x := range v {
			if i > 0 {
				w.b.WriteByte(',')
			}
			if err := w.value(x); err != nil {
				return err
			}
		}
		w.b.WriteByte(']')
	case map[string]any:
		return w.object(v)
	default:
		return fmt.Errorf("a %T is no value of JSON", v)
	}
	return nil
}

func (w *writer) object(m map[string]any) error {
	w.b.WriteByte('{')
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			w.b.WriteByte(',')
		}
		if err := w.text(name); err != nil {
			return err
		}
		w.b.WriteByte(':')
		if err := w.value(m[name]); err != nil {
			return err
		}
	}
	w.b.WriteByte('}')
	return nil
}

func (w *writer) text(s string) error {
	if *w.budget -= len(s) / 16; *w.budget < 0 {
		*w.budget = 0
		return ErrBudget
	}
	w.b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(r)
		case r < ' ':
			fmt.Fprintf(&w.b, `\u%04x`, r)
		default:
			w.b.WriteRune(r)
		}
	}
	w.b.WriteByte('"')
	return nil
}
