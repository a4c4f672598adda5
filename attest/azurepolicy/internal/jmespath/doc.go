// Package jmespath is the part of JMESPath (jmespath.org/specification.html)
// that Azure Attestation policies use, with a bound on everything: the length
// and nesting of a query, the work of a search, the size of its result.
//
// Supported are fields, quoted fields, index, projections ([*], *, [], filters),
// multi-select lists and objects, pipes, comparisons, &&, ||, !, literals, raw
// strings and the functions of [Functions]. Not supported are slices and
// expression references (&), and with them the functions that take one
// (sort_by, max_by, min_by, map, group_by). Compile refuses those by name.
//
// Where JMESPath leaves an order open (the members of an object) it is that of
// the sorted names, so that a search gives the same bytes every time.
package jmespath

import (
	"errors"
	"fmt"
)

// Bounds.
const (
	MaxQuery  = 4096 // bytes
	MaxTokens = 1024
	MaxDepth  = 32 // of brackets and operators in a query
	MaxJSON   = 64 // nesting of a document
)

// ErrBudget is returned when a search or a result needs more steps than the
// caller allows.
var ErrBudget = errors.New("the query costs too much for this document")

// SyntaxError says what is wrong with a query and at which byte.
type SyntaxError struct {
	Offset int
	Reason string
}

// Error returns "JMESPath, at byte …: reason".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("JMESPath, at byte %d: %s", e.Offset, e.Reason)
}

// Query is a compiled query. It is immutable and safe for concurrent use.
type Query struct{ root node }

// Compile reads a query.
func Compile(query string) (*Query, error) {
	tokens, err := lex(query)
	if err != nil {
		return nil, err
	}
	p := parser{tokens: tokens}
	root, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tEnd {
		return nil, p.unexpected(t)
	}
	return &Query{root: root}, nil
}

// Search evaluates the query over a document of [Decode]. Each step of the work
// takes one off budget; at zero it ends with [ErrBudget].
func (q *Query) Search(doc any, budget *int) (any, error) {
	s := search{budget: budget}
	return s.eval(q.root, doc)
}
