package azurepolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/attest/azurepolicy/internal/jmespath"
)

const jmesPathName = "JmesPath"

// function is one of the functions of "Claim rule functions". Its arguments and
// its result are sets of values; most functions want sets of one.
type function struct {
	name string
	args int
	run  func(e *evaluation, c call, args [][]value) ([]value, error)
}

func lookupFunction(name string) *function {
	var f function
	switch name {
	case jmesPathName:
		f = function{name, 2, runJmesPath}
	case "JsonToClaimValue":
		f = function{name, 1, runJSONToClaimValue}
	case "IsSubsetOf":
		f = function{name, 2, runIsSubsetOf}
	case "AppendString":
		f = function{name, 2, runAppendString}
	case "NegateBool":
		f = function{name, 1, runNegateBool}
	case "ContainsOnlyValue":
		f = function{name, 2, runContainsOnlyValue}
	default:
		return nil
	}
	return &f
}

func functionNames() string {
	return "JmesPath, JsonToClaimValue, IsSubsetOf, AppendString, NegateBool and ContainsOnlyValue"
}

// one returns the value of a set that has one. Equal values count as one: the
// pages speak of sets, and a claim that two rules made alike says nothing new.
func one(set []value, kind valueKind, what string) (value, error) {
	if len(set) == 0 {
		return value{}, fmt.Errorf("%s is empty", what)
	}
	v := set[0]
	for _, other := range set[1:] {
		if !other.equal(v) {
			return value{}, fmt.Errorf("%s has %d different values, and one is wanted", what, len(set))
		}
		v.readOnly = v.readOnly || other.readOnly
	}
	if kind != kindNone && v.kind != kind {
		return value{}, fmt.Errorf("%s is of type %s, want %s", what, v.kind, kind)
	}
	return v, nil
}

// decode reads JSON once for each text of an evaluation: policies query the same
// event log many times.
func (e *evaluation) decode(text string) (any, error) {
	if v, ok := e.docs[text]; ok {
		return v, nil
	}
	v, err := jmespath.Decode(text, &e.steps)
	if err != nil {
		return nil, err
	}
	if e.docs == nil {
		e.docs = map[string]any{}
	}
	e.docs[text] = v
	return v, nil
}

// runJmesPath returns the result as JSON: a string keeps its quotes. The page
// says both "returns the resultant JSON as a string" and shows bar for "bar"; the
// samples compare with "null" and build queries from the result, which only fits
// JSON, and JsonToClaimValue around it takes JSON.
func runJmesPath(e *evaluation, c call, args [][]value) ([]value, error) {
	doc, err := one(args[0], kindText, "the first argument")
	if err != nil {
		return nil, err
	}
	query, err := one(args[1], kindText, "the second argument")
	if err != nil {
		return nil, err
	}
	q := c.query
	if q == nil {
		if q, err = jmespath.Compile(query.s); err != nil {
			return nil, err
		}
	}
	v, err := e.decode(doc.s)
	if err != nil {
		return nil, err
	}
	if v, err = q.Search(v, &e.steps); err != nil {
		return nil, err
	}
	out, err := jmespath.Encode(v, &e.steps)
	if err != nil {
		return nil, err
	}
	result := textValue(out)
	result.readOnly = doc.readOnly || query.readOnly
	return []value{result}, e.grow(len(out))
}

func runJSONToClaimValue(e *evaluation, _ call, args [][]value) ([]value, error) {
	in, err := one(args[0], kindText, "the argument")
	if err != nil {
		return nil, err
	}
	v, err := e.decode(in.s)
	if err != nil {
		return nil, err
	}
	items, isArray := v.([]any)
	if !isArray {
		items = []any{v}
	}
	var out []value
	for _, item := range items {
		if item == nil {
			continue // an empty claim, which is no claim
		}
		w, err := claimValue(item)
		if err != nil {
			return nil, err
		}
		w.readOnly = in.readOnly
		out = append(out, w)
	}
	return out, e.grow(len(in.s))
}

func claimValue(v any) (value, error) {
	switch v := v.(type) {
	case bool:
		return boolValue(v), nil
	case string:
		return textValue(v), nil
	case json.Number:
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return value{}, errors.New("a number that is not a 64-bit integer has no claim value")
		}
		return integerValue(n), nil
	case []any:
		return value{}, errors.New("an array in an array has no claim value")
	}
	return value{}, errors.New("a JSON object has no claim value")
}

func runIsSubsetOf(e *evaluation, _ call, args [][]value) ([]value, error) {
	for _, v := range args[0] {
		in, err := e.contains(args[1], v)
		if err != nil {
			return nil, err
		}
		if !in {
			return []value{boolValue(false)}, nil
		}
	}
	return []value{boolValue(true)}, nil
}

func (e *evaluation) contains(set []value, v value) (bool, error) {
	for _, w := range set {
		if err := e.step(1); err != nil {
			return false, err
		}
		if w.equal(v) {
			return true, nil
		}
	}
	return false, nil
}

func runAppendString(e *evaluation, _ call, args [][]value) ([]value, error) {
	a, err := one(args[0], kindText, "the first argument")
	if err != nil {
		return nil, err
	}
	b, err := one(args[1], kindText, "the second argument")
	if err != nil {
		return nil, err
	}
	if err := e.grow(len(a.s) + len(b.s)); err != nil {
		return nil, err
	}
	out := textValue(strings.Join([]string{a.s, b.s}, ""))
	out.readOnly = a.readOnly || b.readOnly
	return []value{out}, nil
}

func runNegateBool(_ *evaluation, _ call, args [][]value) ([]value, error) {
	v, err := one(args[0], kindBool, "the argument")
	if err != nil {
		return nil, err
	}
	out := boolValue(v.n == 0)
	out.readOnly = v.readOnly
	return []value{out}, nil
}

func runContainsOnlyValue(e *evaluation, _ call, args [][]value) ([]value, error) {
	want, err := one(args[1], kindNone, "the second argument")
	if err != nil {
		return nil, err
	}
	only := len(args[0]) > 0
	for _, v := range args[0] {
		if err := e.step(1); err != nil {
			return nil, err
		}
		only = only && v.equal(want)
	}
	return []value{boolValue(only)}, nil
}
