package azurepolicy

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
)

// Issuers of claims ("Claim and claim rules", claim).
const (
	IssuerService = "AttestationService" // the verifier, from evidence
	IssuerPolicy  = "AttestationPolicy"  // a rule
	IssuerCustom  = "CustomClaim"        // the attester's own word
)

// Claim is a claim of the incoming set.
type Claim struct {
	Type string
	// Value is a bool, a string or an integer: int, int64 or uint64 within the
	// range of int64.
	Value any
	// Issuer is one of the three above. Empty means CustomClaim, as documented.
	Issuer string
	// ReadOnly claims can be tested but not issued ("Claim rule functions").
	ReadOnly bool
}

type valueKind uint8

const (
	kindNone valueKind = iota
	kindBool
	kindInteger
	kindText
)

func (k valueKind) String() string { return [...]string{"nothing", "Boolean", "Integer", "String"}[k] }

// value is a typed value. Two values are equal when == says so, readOnly apart.
type value struct {
	kind     valueKind
	readOnly bool
	n        int64 // of an integer; 1 for true
	s        string
}

func boolValue(b bool) value {
	v := value{kind: kindBool}
	if b {
		v.n = 1
	}
	return v
}

func textValue(s string) value   { return value{kind: kindText, s: s} }
func integerValue(n int64) value { return value{kind: kindInteger, n: n} }

func (v value) equal(w value) bool { return v.kind == w.kind && v.n == w.n && v.s == w.s }

// public is the value in Go's own types.
func (v value) public() any {
	switch v.kind {
	case kindBool:
		return v.n != 0
	case kindInteger:
		return v.n
	default:
		return v.s
	}
}

// show renders the value for an explanation.
func (v value) show() string { return term.Value(v.public()) }

// source renders the value as a policy spells it.
func (v value) source() string {
	switch v.kind {
	case kindBool:
		return strconv.FormatBool(v.n != 0)
	case kindInteger:
		return strconv.FormatInt(v.n, 10)
	default:
		s := v.s
		if strings.ContainsAny(s, `\"`) {
			s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`)
		}
		return `"` + s + `"`
	}
}

// set reads a value of Go.
func (v *value) set(from any) error {
	switch x := from.(type) {
	case bool:
		v.kind = kindBool
		if x {
			v.n = 1
		}
	case string:
		v.kind, v.s = kindText, x
	case int64:
		v.kind, v.n = kindInteger, x
	case int:
		v.kind, v.n = kindInteger, int64(x)
	case uint64:
		if x > math.MaxInt64 {
			return fmt.Errorf("%d is beyond 64-bit signed integers", x)
		}
		v.kind, v.n = kindInteger, int64(x)
	default:
		return fmt.Errorf("a %T is neither boolean, integer nor string", from)
	}
	return nil
}

// issuer is one of the three issuers.
type issuer uint8

const (
	byNobody issuer = iota
	byService
	byPolicy
	byCustom
)

func (i issuer) String() string {
	return [...]string{"", IssuerService, IssuerPolicy, IssuerCustom}[i]
}

// readIssuer reads an issuer; none is the attester itself, as documented.
func readIssuer(s string) issuer {
	switch s {
	case IssuerService:
		return byService
	case IssuerPolicy:
		return byPolicy
	case IssuerCustom, "":
		return byCustom
	}
	return byNobody
}

// claim is a claim in the form that evaluation works on.
type claim struct {
	typ    string
	value  value
	issuer issuer
}

func (c *claim) property(p property) value {
	switch p {
	case propType:
		return textValue(c.typ)
	case propIssuer:
		return textValue(c.issuer.String())
	case propValueType:
		return textValue(c.value.kind.String())
	case propValue:
	}
	return c.value
}
