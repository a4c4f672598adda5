package jmespath

import (
	"encoding/json"
	"strconv"
	"strings"
)

// same compares deeply. Numbers are compared by value.
func (s *search) same(a, b any) (bool, error) {
	if err := s.pay(1); err != nil {
		return false, err
	}
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		return ok && order(x, y) == 0, nil
	case string:
		y, ok := b.(string)
		return ok && x == y, nil
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		for i := range x {
			if ok, err := s.same(x[i], y[i]); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		for name, v := range x {
			w, ok := y[name]
			if !ok {
				return false, nil
			}
			if ok, err := s.same(v, w); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	}
	return a == b, nil // null and booleans
}

// truthy: false are null, false and what is empty (JMESPath, "or expressions").
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// order compares two numbers: exactly when both are 64-bit integers, as floats
// otherwise.
func order(a, b json.Number) int {
	x, errX := strconv.ParseInt(string(a), 10, 64)
	y, errY := strconv.ParseInt(string(b), 10, 64)
	if errX == nil && errY == nil {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	f, _ := strconv.ParseFloat(string(a), 64) // ±Inf beyond the range
	g, _ := strconv.ParseFloat(string(b), 64)
	switch {
	case f < g:
		return -1
	case f > g:
		return 1
	case string(a) == string(b), isFraction(a, b):
		return 0
	}
	return strings.Compare(string(a), string(b)) // large integers that a float cannot tell apart
}

func isFraction(a, b json.Number) bool {
	return strings.ContainsAny(string(a), ".eE") || strings.ContainsAny(string(b), ".eE")
}
