package jmespath

import (
	"encoding/json"
	"maps"
	"slices"
)

type search struct{ budget *int }

func (s *search) pay(n int) error {
	if *s.budget -= n; *s.budget < 0 {
		*s.budget = 0
		return ErrBudget
	}
	return nil
}

// eval is bounded in depth by the length of the query, and in work by the
// budget.
func (s *search) eval(n node, v any) (any, error) {
	if err := s.pay(1); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case current:
		return v, nil
	case literal:
		return n.v, nil
	case field:
		m, _ := v.(map[string]any)
		return m[n.name], nil
	case sub:
		left, err := s.eval(n.left, v)
		if err != nil {
			return nil, err
		}
		return s.eval(n.right, left)
	case index:
		left, err := s.eval(n.left, v)
		a, _ := left.([]any)
		i := n.i
		if i < 0 {
			i += len(a)
		}
		if err != nil || i < 0 || i >= len(a) {
			return nil, err
		}
		return a[i], nil
	case either, both, not, compare:
		return s.logic(n, v)
	case list, hash:
		return s.multi(n, v)
	case call:
		return s.call(n, v)
	default:
		return s.project(n, v)
	}
}

func (s *search) logic(n node, v any) (any, error) {
	switch n := n.(type) {
	case either:
		left, err := s.eval(n.left, v)
		if err != nil || truthy(left) {
			return left, err
		}
		return s.eval(n.right, v)
	case both:
		left, err := s.eval(n.left, v)
		if err != nil || !truthy(left) {
			return left, err
		}
		return s.eval(n.right, v)
	case not:
		x, err := s.eval(n.x, v)
		return !truthy(x), err
	case compare:
		left, err := s.eval(n.left, v)
		if err != nil {
			return nil, err
		}
		right, err := s.eval(n.right, v)
		if err != nil {
			return nil, err
		}
		return s.compare(n.op, left, right)
	}
	return nil, nil
}

func (s *search) compare(op string, a, b any) (any, error) {
	switch op {
	case "==", "!=":
		same, err := s.same(a, b)
		return same == (op == "=="), err
	}
	x, okX := a.(json.Number)
	y, okY := b.(json.Number)
	if !okX || !okY {
		return nil, nil // JMESPath: ordering is for numbers, all else is null
	}
	c := order(x, y)
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	default:
		return c >= 0, nil
	}
}

// project evaluates the nodes that make lists out of lists and objects.
func (s *search) project(n node, v any) (any, error) {
	switch n := n.(type) {
	case projection:
		left, err := s.eval(n.left, v)
		a, ok := left.([]any)
		if err != nil || !ok {
			return nil, err
		}
		return s.each(a, n.right, nil)
	case valuesOf:
		left, err := s.eval(n.left, v)
		m, ok := left.(map[string]any)
		if err != nil || !ok {
			return nil, err
		}
		return s.each(members(m), n.right, nil)
	case filter:
		left, err := s.eval(n.left, v)
		a, ok := left.([]any)
		if err != nil || !ok {
			return nil, err
		}
		return s.each(a, n.right, n.cond)
	case flatten:
		left, err := s.eval(n.left, v)
		a, ok := left.([]any)
		if err != nil || !ok {
			return nil, err
		}
		out := []any{}
		for _, x := range a {
			inner, ok := x.([]any)
			if !ok {
				inner = []any{x}
			}
			if err := s.pay(1 + len(inner)); err != nil {
				return nil, err
			}
			out = append(out, inner...)
		}
		return out, nil
	}
	return nil, nil
}

// each applies n to the elements that cond (nil for all) lets through, and
// leaves out what comes to null.
func (s *search) each(a []any, n, cond node) (any, error) {
	out := []any{}
	for _, x := range a {
		if cond != nil {
			ok, err := s.eval(cond, x)
			if err != nil {
				return nil, err
			}
			if !truthy(ok) {
				continue
			}
		}
		y, err := s.eval(n, x)
		if err != nil {
			return nil, err
		}
		if y != nil {
			out = append(out, y)
		}
	}
	return out, nil
}

func (s *search) multi(n node, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	if l, ok := n.(list); ok {
		return s.evalAll(l.items, v)
	}
	h, _ := n.(hash)
	items, err := s.evalAll(h.items, v)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(items))
	for i, name := range h.names {
		out[name] = items[i]
	}
	return out, nil
}

func (s *search) evalAll(nodes []node, v any) ([]any, error) {
	out := make([]any, len(nodes))
	for i, n := range nodes {
		x, err := s.eval(n, v)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

// members returns an object's values in the order of their names.
func members(m map[string]any) []any {
	out := make([]any, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[name])
	}
	return out
}
