package azurepolicy

import (
	"errors"
	"fmt"
	"slices"
)

// act runs an action that makes claims, once for each combination of the claims
// that it takes one by one.
func (e *evaluation) act(r *rule, b *bindings) error {
	if d := r.act.direct; len(d) == 0 || len(d) == 1 && !r.conditions[d[0]].linked {
		return e.actSimple(r, b)
	}
	picks, err := e.picks(r, b)
	if err != nil {
		return err
	}
	for _, pick := range picks {
		if err := e.make(r, b, pick); err != nil {
			return locate(r.act.at, err)
		}
	}
	return nil
}

// actSimple is act for the usual case, without a list of combinations.
func (e *evaluation) actSimple(r *rule, b *bindings) error {
	if len(r.act.direct) == 0 {
		return locate(r.act.at, e.make(r, b, nil))
	}
	d := r.act.direct[0]
	pick := make([]int, len(r.conditions))
	for _, j := range b.sets[d] {
		pick[d] = j
		if err := e.make(r, b, pick); err != nil {
			return locate(r.act.at, err)
		}
	}
	return nil
}

// picks returns, for each run of the action, the claim of each condition that
// the action refers to directly.
func (e *evaluation) picks(r *rule, b *bindings) ([][]int, error) {
	none := slices.Repeat([]int{-1}, len(r.conditions))
	out := [][]int{none}
	var linked []int
	for _, d := range r.act.direct {
		if r.conditions[d].linked {
			linked = append(linked, d)
		}
	}
	if len(linked) > 0 {
		out = project(b.tuples, linked, none)
	}
	for _, d := range r.act.direct {
		if r.conditions[d].linked {
			continue
		}
		var longer [][]int
		for _, pick := range out {
			for _, j := range b.sets[d] {
				next := slices.Clone(pick)
				next[d] = j
				if longer = append(longer, next); len(longer) > maxTuples {
					return nil, fmt.Errorf("more than %d combinations of claims fit", maxTuples)
				}
			}
		}
		out = longer
	}
	return out, nil
}

// project reduces tuples to some of their conditions and drops repetitions.
func project(tuples [][]int, conds, none []int) [][]int {
	var out [][]int
	for _, t := range tuples {
		p := slices.Clone(none)
		for _, c := range conds {
			p[c] = t[c]
		}
		out = append(out, p)
	}
	slices.SortFunc(out, slices.Compare)
	return slices.CompactFunc(out, func(a, b []int) bool { return slices.Equal(a, b) })
}

// eval evaluates an expression to a set of values: references take all claims
// that their condition stands for.
func (e *evaluation) eval(r *rule, b *bindings, x expr) ([]value, error) {
	switch x := x.(type) {
	case literal:
		return []value{x.v}, nil
	case reference:
		set := b.set(r, x.cond)
		out := make([]value, len(set))
		for i, j := range set {
			out[i] = e.claims[j].property(x.prop)
		}
		return out, e.step(len(set))
	case call:
		args := make([][]value, len(x.args))
		for i, a := range x.args {
			set, err := e.eval(r, b, a)
			if err != nil {
				return nil, err
			}
			args[i] = set
		}
		out, err := x.fn.run(e, x, args)
		if err != nil {
			err = locate(x.at, fmt.Errorf("%s: %w", x.fn.name, err))
		}
		return out, err
	}
	return nil, errors.New("unknown expression")
}

// make runs the action once.
func (e *evaluation) make(r *rule, b *bindings, pick []int) error {
	a := &r.act
	if a.claim >= 0 {
		return e.put(a.kind, e.claims[pick[a.claim]])
	}
	typ, ok := e.direct(a.typ, pick)
	if !ok {
		types, err := e.eval(r, b, a.typ)
		if err == nil {
			typ, err = one(types, kindNone, "the type")
		}
		if err != nil {
			return err
		}
	}
	if typ.kind != kindText {
		return fmt.Errorf("the type is of type %s, want %s", typ.kind, kindText)
	}
	if v, ok := e.direct(a.value, pick); ok {
		return e.putValue(a, typ, v)
	}
	values, err := e.eval(r, b, a.value)
	if err != nil {
		return err
	}
	for _, v := range values {
		if err := e.putValue(a, typ, v); err != nil {
			return err
		}
	}
	return nil
}

// direct evaluates what is a single value without a set around it.
func (e *evaluation) direct(x expr, pick []int) (value, bool) {
	switch x := x.(type) {
	case literal:
		return x.v, true
	case reference:
		return e.claims[pick[x.cond]].property(x.prop), true
	}
	return value{}, false
}

func (e *evaluation) putValue(a *action, typ, v value) error {
	if a.valueType != "" && v.kind.String() != a.valueType {
		return fmt.Errorf("the value is of type %s, and valueType says %s", v.kind, a.valueType)
	}
	v.readOnly = v.readOnly || typ.readOnly
	return e.put(a.kind, claim{typ: typ.s, issuer: byPolicy, value: v})
}

// put adds a claim to the incoming set and to those that the action names
// ("Claim and claim rules", action verbs).
func (e *evaluation) put(k actionKind, c claim) error {
	if err := checkType(k, textValue(c.typ)); err != nil {
		return err
	}
	var err error
	switch k {
	case issue:
		if c.value.readOnly {
			return fmt.Errorf("%s is read-only: it can be tested and not issued", name(&c))
		}
		e.outgoing, err = e.insert(e.outgoing, c)
	case issueProperty:
		if want := propertyType(c.typ); want != kindNone && c.value.kind != want {
			return fmt.Errorf("the property %s is of type %s, got %s", name(&c), want, c.value.kind)
		}
		e.properties, err = e.insert(e.properties, c)
	case add, permit, deny:
	}
	if err != nil {
		return err
	}
	e.claims, err = e.insert(e.claims, c)
	return err
}

// insert appends a claim that is not there yet. A set cannot tell whether it
// holds a claim twice, and so no rule can.
func (e *evaluation) insert(to []claim, c claim) ([]claim, error) {
	if err := e.step(len(to)); err != nil {
		return to, err
	}
	for i := range to {
		if to[i].typ == c.typ && to[i].issuer == c.issuer && to[i].value.equal(c.value) {
			to[i].value.readOnly = to[i].value.readOnly || c.value.readOnly
			return to, nil
		}
	}
	if len(to) >= MaxClaims {
		return to, fmt.Errorf("more than %d claims", MaxClaims)
	}
	return append(to, c), e.grow(len(c.value.s))
}
