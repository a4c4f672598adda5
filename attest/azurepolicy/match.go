package azurepolicy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/attest/term"
)

// bindings are the claims, by index, that a rule's conditions stand for.
type bindings struct {
	sets [][]int // of a bound condition that is not linked
	// tuples of claims that fit the linked conditions together: for each
	// condition an index, or -1 where it is not linked or not reached.
	tuples [][]int
}

// match looks for claims that fit the rule's conditions. A rule without
// conditions always fires.
func (e *evaluation) match(r *rule) (b bindings, fires bool, err error) {
	if e.rec != nil {
		e.rec.begin(len(r.conditions))
	}
	for i := range r.conditions {
		c := &r.conditions[i]
		ok, err := e.condition(r, i, c, &b)
		if e.rec != nil {
			e.rec.condition(i, ok, err)
		}
		if err != nil {
			return b, false, locate(c.at, err)
		}
		if !ok {
			return b, false, nil
		}
	}
	return b, true, nil
}

func (e *evaluation) condition(r *rule, i int, c *condition, b *bindings) (bool, error) {
	operands, err := e.operands(r, c, b)
	if err != nil {
		return false, err
	}
	if c.linked {
		return e.extend(r, i, c, operands, b)
	}
	found := false
	if err := e.step(len(e.claims)); err != nil {
		return false, err
	}
	for j := range e.claims {
		cl := &e.claims[j]
		if c.typ != "" && cl.typ != c.typ {
			continue
		}
		ok, err := e.fits(c, cl, operands, nil)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		found = true
		if !c.bound {
			break
		}
		if b.sets == nil {
			b.sets = make([][]int, len(r.conditions))
		}
		b.sets[i] = append(b.sets[i], j)
	}
	return found != c.negated, nil
}

// extend adds condition i to the tuples: every claim that fits beside those that
// a tuple has already.
func (e *evaluation) extend(r *rule, i int, c *condition, operands [][]value, b *bindings) (bool, error) {
	if b.tuples == nil {
		b.tuples = [][]int{slices.Repeat([]int{-1}, len(r.conditions))}
	}
	var out [][]int
	for _, tuple := range b.tuples {
		found := false
		if err := e.step(len(e.claims)); err != nil {
			return false, err
		}
		for j := range e.claims {
			cl := &e.claims[j]
			if c.typ != "" && cl.typ != c.typ {
				continue
			}
			ok, err := e.fits(c, cl, operands, tuple)
			if err != nil {
				return false, err
			}
			if !ok {
				continue
			}
			found = true
			if c.negated {
				break
			}
			longer := slices.Clone(tuple)
			longer[i] = j
			if out = append(out, longer); len(out) > maxTuples {
				return false, fmt.Errorf("more than %d combinations of claims fit", maxTuples)
			}
		}
		if c.negated && !found {
			out = append(out, tuple)
		}
	}
	b.tuples = out
	return len(out) > 0, nil
}

// operands evaluates the function calls among a condition's operands, once.
func (e *evaluation) operands(r *rule, c *condition, b *bindings) ([][]value, error) {
	var out [][]value
	for i := range c.tests {
		t := &c.tests[i]
		if _, ok := t.operand.(call); !ok {
			continue
		}
		set, err := e.eval(r, b, t.operand)
		if err != nil {
			return nil, locate(t.at, err)
		}
		if out == nil {
			out = make([][]value, len(c.tests))
		}
		out[i] = set
	}
	return out, nil
}

// fits reports whether a claim of the right literal type meets every test of a
// condition. tuple holds the claims that references stand for.
func (e *evaluation) fits(c *condition, cl *claim, operands [][]value, tuple []int) (bool, error) {
	if err := e.step(1); err != nil {
		return false, err
	}
	for _, i := range c.order {
		t := &c.tests[i]
		left, ok := cl.property(t.prop), false
		var err error
		switch operand := t.operand.(type) {
		case literal:
			ok, err = e.compare(t, cl, left, operand.v)
		case reference:
			ok, err = e.compare(t, cl, left, e.claims[tuple[operand.cond]].property(operand.prop))
		case call:
			for _, right := range operands[i] {
				if ok, err = e.compare(t, cl, left, right); ok || err != nil {
					break
				}
			}
		}
		if err != nil {
			return false, locate(t.at, err)
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

// compare compares two values. Values of different types are not equal. For an
// order or a pattern a value of another type is an error, not false: false would
// let evidence past a rule that denies.
func (e *evaluation) compare(t *test, cl *claim, left, right value) (bool, error) {
	switch t.op {
	case "==":
		return left.equal(right), nil
	case "!=":
		return !left.equal(right), nil
	case "=~", "!~":
		if left.kind != kindText || len(left.s) > maxMatched {
			return false, fmt.Errorf("%s of %s is no text of at most %d bytes, which %s wants", t.prop, name(cl), maxMatched, t.op)
		}
		if err := e.step(1 + len(left.s)*t.size/4); err != nil {
			return false, err
		}
		return t.pattern.MatchString(left.s) == (t.op == "=~"), nil
	}
	if left.kind != kindInteger || right.kind != kindInteger {
		return false, fmt.Errorf("%s compares integers, and %s is of type %s", t.op, name(cl), left.kind)
	}
	switch t.op {
	case "<":
		return left.n < right.n, nil
	case "<=":
		return left.n <= right.n, nil
	case ">":
		return left.n > right.n, nil
	case ">=":
		return left.n >= right.n, nil
	}
	return false, errors.New("unknown comparison")
}

func name(c *claim) string { return `"` + term.Clean(c.typ, term.MaxValue) + `"` }

// set returns the claims that a condition stands for.
func (b *bindings) set(r *rule, cond int) []int {
	if !r.conditions[cond].linked {
		return b.sets[cond]
	}
	var out []int
	for _, t := range b.tuples {
		if t[cond] >= 0 {
			out = append(out, t[cond])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
