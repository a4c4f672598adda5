package azurepolicy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
)

// Bounds of a policy. A policy beyond them is refused.
const (
	MaxText       = 64 << 10 // bytes
	MaxRules      = 256
	MaxConditions = 16 // of one rule
	MaxTests      = 16 // of one condition
	MaxNesting    = 8  // of function calls
	MaxPattern    = 256
	MaxPatterns   = 64
	MaxProblems   = 20 // listed at once
	maxTypeName   = 512
)

// ErrSyntax is wrapped by every error of [Parse], ErrEvaluation by every error
// of [Policy.Evaluate], ErrEnvelope by every error of [ParseEnvelope] and
// [ParseOpenEnvelope].
var (
	ErrSyntax     = errors.New("invalid attestation policy")
	ErrEvaluation = errors.New("the attestation policy cannot be evaluated")
	ErrEnvelope   = errors.New("invalid attestation policy envelope")
)

// Problem is one thing that is wrong with a policy's text.
type Problem struct {
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1, in characters
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// String returns "line:column: reason".
func (p Problem) String() string { return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Reason) }

// Excerpt returns the line of text that the problem is in and a caret below the
// place, for a terminal.
func (p Problem) Excerpt(text string) string {
	const most = 120
	lines := strings.Split(text, "\n")
	if p.Line < 1 || p.Line > len(lines) {
		return ""
	}
	runes := []rune(strings.TrimRight(lines[p.Line-1], "\r"))
	col := min(max(p.Column-1, 0), len(runes))
	from := max(0, col-most/2)
	to := min(len(runes), from+most)
	line := strings.ReplaceAll(string(runes[from:to]), "\t", " ")
	return term.Clean(line, 4*most) + "\n" + strings.Repeat(" ", col-from) + "^"
}

// SyntaxError lists what is wrong with a policy, at most [MaxProblems].
type SyntaxError struct{ Problems []Problem }

// Error lists all problems.
func (e *SyntaxError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return ErrSyntax.Error() + ": " + strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(err, ErrSyntax) true.
func (e *SyntaxError) Unwrap() error { return ErrSyntax }
