package tee

import (
	"errors"
	"strings"
)

// Code is the stable, machine-readable reason of a failure or a finding. Codes
// appear in JSON output, problem documents, receipts and tests.
type Code string

// The reasons that verification gives. Package attest adds those of appraisal.
const (
	CodeParse             Code = "parse"              // malformed, truncated or over-long bytes
	CodeUnknownFormat     Code = "unknown_format"     // no verifier knows these bytes
	CodeUnsupported       Code = "unsupported"        // known format, version or algorithm we refuse
	CodeChain             Code = "chain"              // certificate chain does not end in a root
	CodeSignature         Code = "signature"          // a signature does not verify
	CodeBinding           Code = "binding"            // nonce, key or report data is not the expected one
	CodeExpired           Code = "expired"            // a certificate is not valid at the given time
	CodeRevoked           Code = "revoked"            // a certificate of the chain is revoked
	CodeProduct           Code = "product"            // report, certificate and chain name different products
	CodePlatform          Code = "platform"           // certificate is for another chip or TCB
	CodeCollateralMissing Code = "collateral_missing" // an endorsement that should be checked was not given
	CodeCollateralExpired Code = "collateral_expired" // an endorsement is past its next update
	CodeRevocationUnknown Code = "revocation_unknown" // no revocation list of an issuer whose lists nobody caches
	CodeTCBSignature      Code = "tcb_signature"      // vendor collateral is not signed by the vendor
	CodeTCBUnsupported    Code = "tcb_unsupported"    // the platform is below every level that the vendor lists
	CodeFMSPC             Code = "fmspc"              // Intel collateral is for another family of platforms
	CodeQEIdentity        Code = "qe_identity"        // not the quoting enclave that Intel names
	CodeModuleIdentity    Code = "module_identity"    // not the TDX module that Intel names
	CodeNoSGXExtension    Code = "no_sgx_extension"   // a certificate is not one of a platform
	CodeTrailing          Code = "trailing_bytes"     // unsigned bytes follow the evidence
	CodeEventLog          Code = "event_log"          // an event log does not replay to the measured registers
	CodeTime              Code = "time"               // no time was given to verify at
	CodeSealPolicy        Code = "seal_policy"        // the caller does not meet the seal policy
	CodeSealed            Code = "sealed"             // sealed bytes were altered or sealed by other code
	CodeCounter           Code = "counter"            // a counter does not stand where the caller says
	CodeRollback          Code = "rollback"           // older state was presented as the current one
	CodeUnavailable       Code = "unavailable"        // the TEE device did not answer
)

// Failure is one reason why something was refused, in a form that a person, a
// program and the portal can all use. Want and Got are short printable values
// of the claim; they never hold a secret.
type Failure struct {
	Code  Code   `json:"code"`
	Claim string `json:"claim,omitempty"`
	Want  string `json:"want,omitempty"`
	Got   string `json:"got,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// String returns "code: claim: want …, got …" without the hint.
func (f Failure) String() string {
	var b strings.Builder
	b.WriteString(string(f.Code))
	if f.Claim != "" {
		b.WriteString(": " + f.Claim)
	}
	if f.Want != "" {
		b.WriteString(": want " + f.Want)
	}
	if f.Got != "" {
		b.WriteString(", got " + f.Got)
	}
	return b.String()
}

// Finding is something the relying party should know about evidence that
// verified: missing collateral, unsigned trailing bytes. A policy may refuse it
// by its code.
type Finding struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
}

// ErrNotVerified is wrapped by every error of a [Verifier]. Evidence that does
// not verify proves nothing: do not use any part of it.
var ErrNotVerified = errors.New("evidence does not verify")

// VerifyError lists every check that failed. Use errors.AsType[*VerifyError] to
// get at the failures, errors.Is with [ErrNotVerified] to recognise it.
type VerifyError struct {
	Kind     Kind
	Failures []Failure
}

// Refuse returns a *VerifyError with one failure.
func Refuse(k Kind, code Code, claim, want, got, hint string) *VerifyError {
	return &VerifyError{Kind: k, Failures: []Failure{{Code: code, Claim: claim, Want: want, Got: got, Hint: hint}}}
}

// Error lists all failures.
func (e *VerifyError) Error() string {
	parts := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		parts[i] = f.String()
	}
	name := string(e.Kind)
	if name == "" {
		name = "unknown"
	}
	return name + " " + ErrNotVerified.Error() + ": " + strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(err, ErrNotVerified) true.
func (e *VerifyError) Unwrap() error { return ErrNotVerified }

// Error is a coded error of a TEE device, the sealing layer or a counter.
type Error struct {
	Code Code
	Op   string // what was attempted, lower case
	Hint string // what the caller can do, may be empty
	Err  error  // the cause, may be nil
}

// Error returns "op: code: cause".
func (e *Error) Error() string {
	s := e.Op + ": " + string(e.Code)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an *Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Op == ""
}
