package attest

import (
	"errors"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// ErrToken is wrapped by every refusal of a [TokenVerifier]: use nothing from
// the token, and ask the attester for a new one.
var ErrToken = errors.New("attestation result refused")

// TokenError lists the reasons why a token was refused. Checks of the content
// are only made, and only listed, after the signature verified.
type TokenError struct {
	Failures []tee.Failure
}

// Error lists all failures.
func (e *TokenError) Error() string {
	parts := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		parts[i] = f.String()
	}
	return ErrToken.Error() + ": " + strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(err, ErrToken) true.
func (e *TokenError) Unwrap() error { return ErrToken }
