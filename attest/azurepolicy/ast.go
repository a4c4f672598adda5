package azurepolicy

import (
	"regexp"

	"github.com/cloister-cc/cloister/attest/azurepolicy/internal/jmespath"
)

// Policy is a policy that was parsed. It is immutable and safe for concurrent
// use. The zero value and nil permit nothing.
type Policy struct {
	version    Version
	sections   [sectionCount]section
	names      map[string]bool // claim types that authorization conditions name
	extensions []string
}

// Version is a version of the language.
type Version string

// The versions.
const (
	V10 Version = "1.0"
	V11 Version = "1.1"
	V12 Version = "1.2"
)

// Version returns the version that the policy names; empty for no policy.
func (p *Policy) Version() Version {
	if p == nil {
		return ""
	}
	return p.version
}

// Names reports whether an authorization condition names a type of claim: the
// policy then speaks of it, and decides.
func (p *Policy) Names(claim string) bool { return p != nil && p.names[claim] }

// Extensions lists the places ("line:column: what") at which the policy uses
// what Azure's documentation does not describe.
func (p *Policy) Extensions() []string {
	if p == nil {
		return nil
	}
	return append([]string(nil), p.extensions...)
}

type sectionKind uint8

const (
	configuration sectionKind = iota
	authorization
	issuance
	sectionCount
)

func (k sectionKind) String() string {
	return [...]string{"configurationrules", "authorizationrules", "issuancerules"}[k]
}

type section struct {
	given bool
	at    position
	rules []rule
}

type rule struct {
	at         position
	conditions []condition
	act        action
	linked     bool // some condition compares with a claim that another one binds
}

type condition struct {
	at      position
	id      string // empty: none
	negated bool
	tests   []test
	// order is the order in which tests are evaluated: comparisons that need an
	// integer come last, so that they see only claims that fit otherwise.
	order  []int
	typ    string // the literal of type=="…", if there is one
	linked bool   // takes part in a comparison between claims, see rule.linked
	bound  bool   // the action or a function wants the claims
}

// property of a claim.
type property uint8

const (
	propType property = iota
	propValue
	propValueType
	propIssuer
)

func (p property) String() string { return [...]string{"type", "value", "valueType", "issuer"}[p] }

type test struct {
	at      position
	prop    property
	op      string
	operand expr
	pattern *regexp.Regexp // of =~ and !~
	size    int            // of the compiled pattern
}

type actionKind uint8

const (
	permit actionKind = iota
	deny
	add
	issue
	issueProperty
)

func (k actionKind) String() string {
	return [...]string{"permit", "deny", "add", "issue", "issueproperty"}[k]
}

type action struct {
	at        position
	kind      actionKind
	claim     int // condition whose claims are meant by claim=…, or -1
	typ       expr
	value     expr
	valueType string
	direct    []int // conditions whose claims are taken one by one
}

// expr is one of literal, reference and call.
type expr any

type literal struct{ v value }

// reference is a property of the claims that a condition binds. Outside of
// function calls it stands for one claim at a time, inside for all of them.
type reference struct {
	at   position
	cond int
	id   string
	prop property
}

type call struct {
	at   position
	fn   *function
	args []expr
	// query is the compiled second argument of JmesPath if it is a literal.
	query *jmespath.Query
}
