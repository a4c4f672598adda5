package releasepolicy

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

type kind uint8

const (
	none kind = iota // an object, a list or null: compares with nothing
	boolean
	text
	number
)

func (k kind) String() string {
	return [...]string{"neither text, number nor boolean", "a boolean", "a text", "a number"}[k]
}

// value is a value of a policy or a claim. A number is an integer (its sign and
// magnitude) unless fraction is set.
type value struct {
	kind     kind
	flag     bool // of a boolean
	s        string
	negative bool
	u        uint64
	fraction bool
	f        float64
}

func boolValue(b bool) value { return value{kind: boolean, flag: b} }

func intValue(n int64) value {
	if n < 0 {
		return value{kind: number, negative: true, u: uint64(-(n + 1)) + 1}
	}
	return value{kind: number, u: uint64(n)}
}

// floatValue reads a float; whole numbers that a float holds exactly become
// integers, so that 3 and 3.0 are the same.
func floatValue(f float64) value {
	const exact = 1 << 53
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return value{}
	case f == math.Trunc(f) && math.Abs(f) <= exact:
		return intValue(int64(f))
	}
	return value{kind: number, fraction: true, f: f}
}

// numberValue reads a number of JSON. An integer that does not fit into 64 bits
// is an error: as a float it would be another number.
func numberValue(s string) (value, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return intValue(n), nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return value{kind: number, u: n}, nil
	}
	if !strings.ContainsAny(s, ".eE") {
		return value{}, fmt.Errorf("the integer %.24s does not fit into 64 bits", s)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return value{}, fmt.Errorf("the number %.24s is too large", s)
	}
	return floatValue(f), nil
}

// valueOf reads a claim: what encoding/json and the claims tree make.
func valueOf(v any) value {
	switch v := v.(type) {
	case bool:
		return boolValue(v)
	case string:
		return value{kind: text, s: v}
	case float64:
		return floatValue(v)
	case int64:
		return intValue(v)
	case uint64:
		return value{kind: number, u: v}
	case int:
		return intValue(int64(v))
	case int32:
		return intValue(int64(v))
	case uint32:
		return value{kind: number, u: uint64(v)}
	case json.Number:
		n, err := numberValue(string(v))
		if err != nil {
			return value{}
		}
		return n
	}
	return value{}
}

// source spells the value as JSON, one way for each value.
func (v value) source() string {
	switch {
	case v.kind == boolean:
		return strconv.FormatBool(v.flag)
	case v.kind == text:
		return quote(v.s)
	case v.fraction:
		return strconv.FormatFloat(v.f, 'g', -1, 64)
	case v.negative:
		return "-" + strconv.FormatUint(v.u, 10)
	}
	return strconv.FormatUint(v.u, 10)
}

// order compares two numbers exactly.
func order(a, b value) int {
	if a.fraction || b.fraction {
		return rational(a).Cmp(rational(b))
	}
	switch {
	case a.negative != b.negative:
		if a.negative {
			return -1
		}
		return 1
	case a.u == b.u:
		return 0
	case (a.u < b.u) != a.negative:
		return -1
	}
	return 1
}

func rational(v value) *big.Rat {
	if v.fraction {
		return new(big.Rat).SetFloat64(v.f)
	}
	n := new(big.Int).SetUint64(v.u)
	if v.negative {
		n.Neg(n)
	}
	return new(big.Rat).SetInt(n)
}

// meets compares a claim with what a condition wants. Values of different types
// meet no comparison, not even notEquals: "debuggable notEquals "true"" must not
// hold because the claim is the boolean true.
func (c *condition) meets(got value) bool {
	if got.kind != c.want.kind || got.kind == none {
		return false
	}
	switch c.op {
	case equals:
		return same(got, c.want)
	case notEquals:
		return !same(got, c.want)
	case less:
		return order(got, c.want) < 0
	case lessOrEquals:
		return order(got, c.want) <= 0
	case greater:
		return order(got, c.want) > 0
	case greaterOrEquals:
		return order(got, c.want) >= 0
	case exists, operatorCount:
	}
	return false
}

func same(a, b value) bool {
	switch a.kind {
	case boolean:
		return a.flag == b.flag
	case text:
		return a.s == b.s
	case number:
		return order(a, b) == 0
	case none:
	}
	return false
}
