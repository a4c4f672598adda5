package jmespath

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// function is a built-in function. run gets values; an error of it ends the
// search, as JMESPath's invalid-type does.
type function struct {
	name        string
	least, most int // arguments; most 0: any number
	run         func(s *search, args []any) (any, error)
}

// builtins lists the functions of JMESPath that are supported, and
// equals_ignore_case, which Azure's sample policies use and JMESPath lacks.
func builtins() []function {
	return []function{
		{"contains", 2, 2, contains},
		{"ends_with", 2, 2, affix(strings.HasSuffix)},
		{"equals_ignore_case", 2, 2, affix(strings.EqualFold)},
		{"join", 2, 2, join},
		{"keys", 1, 1, keys},
		{"length", 1, 1, length},
		{"max", 1, 1, extreme(1)},
		{"min", 1, 1, extreme(-1)},
		{"not_null", 1, 0, notNull},
		{"sort", 1, 1, sorted},
		{"starts_with", 2, 2, affix(strings.HasPrefix)},
		{"to_string", 1, 1, toString},
		{"type", 1, 1, func(_ *search, args []any) (any, error) { return typeName(args[0]), nil }},
		{"values", 1, 1, values},
	}
}

// Functions returns the names of the supported functions, sorted.
func Functions() []string {
	var out []string
	for _, f := range builtins() {
		out = append(out, f.name)
	}
	return out
}

func lookup(name string) (function, bool) {
	for _, f := range builtins() {
		if f.name == name {
			return f, true
		}
	}
	return function{}, false
}

func (f function) takes() string {
	switch f.most {
	case 0:
		return "at least 1 argument"
	case 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", f.most)
}

func (s *search) call(n call, v any) (any, error) {
	args, err := s.evalAll(n.args, v)
	if err != nil {
		return nil, err
	}
	out, err := n.fn.run(s, args)
	if err != nil && !errors.Is(err, ErrBudget) {
		err = fmt.Errorf("JMESPath: %s: %w", n.fn.name, err)
	}
	return out, err
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

func wrongType(want string, v any) error {
	return fmt.Errorf("want %s, got %s", want, typeName(v))
}

// affix makes a function of two strings.
func affix(test func(string, string) bool) func(*search, []any) (any, error) {
	return func(s *search, args []any) (any, error) {
		var text [2]string
		for i, a := range args {
			var ok bool
			if text[i], ok = a.(string); !ok {
				return nil, wrongType("two strings", a)
			}
		}
		return test(text[0], text[1]), s.pay(len(text[0]) / 64)
	}
}

func contains(s *search, args []any) (any, error) {
	switch in := args[0].(type) {
	case string:
		part, ok := args[1].(string)
		return ok && strings.Contains(in, part), s.pay(len(in) / 16)
	case []any:
		for _, x := range in {
			if same, err := s.same(x, args[1]); err != nil || same {
				return same, err
			}
		}
		return false, nil
	}
	return nil, wrongType("a string or an array first", args[0])
}

func join(s *search, args []any) (any, error) {
	glue, ok := args[0].(string)
	if !ok {
		return nil, wrongType("a string first", args[0])
	}
	parts, err := stringsOf(args[1])
	if err != nil {
		return nil, err
	}
	size := 0
	for _, p := range parts {
		size += len(p) + len(glue)
	}
	if err := s.pay(size/16 + len(parts)); err != nil {
		return nil, err
	}
	return strings.Join(parts, glue), nil
}

func stringsOf(v any) ([]string, error) {
	a, ok := v.([]any)
	if !ok {
		return nil, wrongType("an array", v)
	}
	out := make([]string, len(a))
	for i, x := range a {
		if out[i], ok = x.(string); !ok {
			return nil, wrongType("an array of strings", x)
		}
	}
	return out, nil
}

func keys(s *search, args []any) (any, error) {
	m, ok := args[0].(map[string]any)
	if !ok {
		return nil, wrongType("an object", args[0])
	}
	out := make([]any, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b any) int {
		x, _ := a.(string)
		y, _ := b.(string)
		return strings.Compare(x, y)
	})
	return out, s.pay(len(m))
}

func values(s *search, args []any) (any, error) {
	m, ok := args[0].(map[string]any)
	if !ok {
		return nil, wrongType("an object", args[0])
	}
	return members(m), s.pay(len(m))
}

func length(s *search, args []any) (any, error) {
	n := 0
	switch v := args[0].(type) {
	case string:
		n = utf8.RuneCountInString(v)
		if err := s.pay(n / 64); err != nil {
			return nil, err
		}
	case []any:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return nil, wrongType("a string, an array or an object", v)
	}
	return json.Number(fmt.Sprint(n)), nil
}

// ranked returns a copy of an array of numbers or of strings in its order.
func ranked(s *search, v any) ([]any, error) {
	a, ok := v.([]any)
	if !ok {
		return nil, wrongType("an array", v)
	}
	for _, x := range a {
		if t := typeName(x); t != typeName(a[0]) || t != "number" && t != "string" {
			return nil, wrongType("an array of numbers or one of strings", x)
		}
	}
	if err := s.pay(16 * len(a)); err != nil {
		return nil, err
	}
	out := slices.Clone(a)
	slices.SortStableFunc(out, func(x, y any) int {
		if n, ok := x.(json.Number); ok {
			m, _ := y.(json.Number)
			return order(n, m)
		}
		t, _ := x.(string)
		u, _ := y.(string)
		return strings.Compare(t, u)
	})
	return out, nil
}

func sorted(s *search, args []any) (any, error) {
	out, err := ranked(s, args[0])
	if err != nil {
		return nil, err
	}
	return append([]any{}, out...), nil
}

func extreme(direction int) func(*search, []any) (any, error) {
	return func(s *search, args []any) (any, error) {
		out, err := ranked(s, args[0])
		if err != nil || len(out) == 0 {
			return nil, err
		}
		if direction > 0 {
			return out[len(out)-1], nil
		}
		return out[0], nil
	}
}

func notNull(_ *search, args []any) (any, error) {
	for _, a := range args {
		if a != nil {
			return a, nil
		}
	}
	return nil, nil
}

func toString(s *search, args []any) (any, error) {
	if text, ok := args[0].(string); ok {
		return text, nil
	}
	return Encode(args[0], s.budget)
}
