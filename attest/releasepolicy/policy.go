package releasepolicy

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// Bounds of a policy. A policy beyond them is refused.
const (
	MaxPolicy    = 64 << 10 // JSON bytes
	MaxDepth     = 16       // of anyOf and allOf
	MaxTerms     = 1024     // conditions, groups and authorities
	MaxClaimName = 256      // bytes
	MaxDots      = 16       // in a claim's name
	MaxString    = 4096     // bytes of a value
	MaxAuthority = 512      // bytes
)

// Version is the only version of the grammar.
const Version = "1.0.0"

// ErrPolicy is wrapped by every error of [Parse]; the text says what is wrong,
// at which JSON pointer and at which line and column.
var ErrPolicy = errors.New("invalid release policy")

// Policy is a release policy that was parsed. It is immutable and safe for
// concurrent use. The zero value and nil release nothing.
type Policy struct {
	root   group // of authorities
	digest [32]byte
}

// operator is how a condition compares.
type operator uint8

const (
	equals operator = iota
	notEquals
	less
	lessOrEquals
	greater
	greaterOrEquals
	exists
	operatorCount
)

func (o operator) String() string {
	return [...]string{"equals", "notEquals", "less", "lessOrEquals", "greater", "greaterOrEquals", "exists"}[o]
}

// ordered reports whether the operator compares numbers only.
func (o operator) ordered() bool { return o >= less && o <= greaterOrEquals }

// node is *group, *statement or *condition.
type node interface {
	encode(b *strings.Builder)
	pointer() string
}

// group is anyOf or allOf; it is never empty in a policy that was parsed.
type group struct {
	at    string
	all   bool
	terms []node
}

// statement is an authority with its conditions.
type statement struct {
	at        string
	authority string // without a trailing slash
	group     group
}

// condition compares a claim with a value.
type condition struct {
	at    string
	claim string
	op    operator
	want  value
}

func (g *group) pointer() string     { return g.at }
func (s *statement) pointer() string { return s.at }
func (c *condition) pointer() string { return c.at }

func (g *group) word() string {
	if g.all {
		return "allOf"
	}
	return "anyOf"
}

// String returns the policy in canonical form: JSON without spaces, members in
// the order of the grammar, numbers and authorities in one spelling. Parsing it
// gives an equal policy.
func (p *Policy) String() string {
	if p == nil || len(p.root.terms) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(`{"version":"` + Version + `",`)
	p.root.encode(&b)
	b.WriteByte('}')
	return b.String()
}

// MarshalJSON returns the canonical form; null for no policy.
func (p *Policy) MarshalJSON() ([]byte, error) {
	if s := p.String(); s != "" {
		return []byte(s), nil
	}
	return []byte("null"), nil
}

// Digest returns the SHA-256 that names the policy in receipts: over the
// canonical form, behind a context of its own. It is zero for no policy.
func (p *Policy) Digest() [32]byte {
	if p == nil {
		return [32]byte{}
	}
	return p.digest
}

func digest(canonical string) [32]byte {
	return sha256.Sum256([]byte("cloister key release policy v1\n" + canonical))
}

func (g *group) encode(b *strings.Builder) {
	b.WriteString(`"` + g.word() + `":[`)
	for i, t := range g.terms {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		t.encode(b)
		b.WriteByte('}')
	}
	b.WriteByte(']')
}

func (s *statement) encode(b *strings.Builder) {
	b.WriteString(`"authority":` + quote(s.authority) + ",")
	s.group.encode(b)
}

func (c *condition) encode(b *strings.Builder) {
	b.WriteString(`"claim":` + quote(c.claim) + `,"` + c.op.String() + `":` + c.want.source())
}

// source returns the condition as JSON, for an explanation.
func (c *condition) source() string {
	var b strings.Builder
	b.WriteByte('{')
	c.encode(&b)
	b.WriteByte('}')
	return b.String()
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.Quote(s) // cannot happen: strings always encode
	}
	return string(b)
}
