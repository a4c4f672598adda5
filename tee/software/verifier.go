package software

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// Verifier verifies the evidence of software TEEs: the form (an EAT, RFC 9711,
// in COSE_Sign1, deterministic and complete), the chain from the platform
// certificate inside it to one of Input.Roots, the signature, and that the
// claims fit together. It embeds no root: whoever wants to believe a software
// TEE names its development root.
//
// Endorsements and Evidence.Certificates are not used: there is no collateral
// for a software TEE, and its certificate is inside the signed evidence.
//
// Claims of verified evidence always have Simulated = true and the TCB status
// NotApplicable. Vendor has runtime_digest (hex), role, walls, missing_walls
// (lists of strings) and profile.
//
// It is pure and safe for concurrent use. Certificates that verified are
// remembered, at most 256.
type Verifier struct{ chains chainCache }

// New returns a verifier.
func New() *Verifier { return &Verifier{} }

// Kind is tee.Software.
func (v *Verifier) Kind() tee.Kind { return tee.Software }

// Detect reports whether data looks like the evidence of a software TEE.
func (v *Verifier) Detect(data []byte) bool { return detect(data) }

// Verify returns what the evidence proves; see [Verifier]. Whether the report
// data is the expected one is for the caller to check. The error is a
// *tee.VerifyError: CodeParse, CodeUnsupported (other profile or algorithm, or
// evidence that does not say simulated), CodeTime (Input.At is zero), CodeChain,
// CodeExpired, CodeSignature, CodePlatform, CodeBinding.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	refuse := func(failures ...tee.Failure) (tee.Claims, []tee.Finding, error) {
		return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.Software, Failures: failures}
	}
	if ev.Kind != tee.Software {
		return refuse(tee.Failure{Code: tee.CodeUnknownFormat, Claim: "tee", Want: string(tee.Software), Got: printable(string(ev.Kind))})
	}
	p, failure := parseEvidence(ev.Data)
	if failure != nil {
		return refuse(*failure)
	}
	key, failure := v.platformKey(p.certificate, in)
	if failure != nil {
		return refuse(*failure)
	}
	if err := p.message.Verify(nil, key.verifier); err != nil {
		return refuse(tee.Failure{Code: tee.CodeSignature, Claim: "signature", Want: "by the platform's key"})
	}
	if failures := checkClaims(p.claims, key.id); len(failures) > 0 {
		return refuse(failures...)
	}
	return claimsFrom(p.claims, key.id), nil, nil
}

func (v *Verifier) platformKey(certificate []byte, in tee.Input) (*platformKey, *tee.Failure) {
	if in.At.IsZero() {
		return nil, &tee.Failure{Code: tee.CodeTime, Claim: "time", Want: "the time to verify at", Got: "none"}
	}
	if len(in.Roots) == 0 {
		return nil, &tee.Failure{Code: tee.CodeChain, Claim: "roots", Want: "a development root", Got: "none", Hint: hintRoots}
	}
	return v.chains.lookup(certificate, in.Roots, in.At)
}

// checkClaims lists what does not fit together in claims that are signed.
func checkClaims(c eatClaims, platformID [32]byte) []tee.Failure {
	var failures []tee.Failure
	bad := func(code tee.Code, claim, want, got string) {
		failures = append(failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got})
	}
	if len(c.Nonce) != 64 {
		bad(tee.CodeParse, "eat_nonce", "64 bytes", fmt.Sprintf("%d bytes", len(c.Nonce)))
	}
	if want := append([]byte{ueidRandom}, platformID[:]...); !bytes.Equal(c.UEID, want) {
		bad(tee.CodePlatform, "ueid", hex.EncodeToString(want), printable(hex.EncodeToString(c.UEID)))
	}
	if c.DebugStatus != debugEnabled && c.DebugStatus != debugDisabledSinceBoot {
		bad(tee.CodeParse, "dbgstat", "0 or 2", fmt.Sprint(c.DebugStatus))
	}
	checkMeasurement(c, bad)
	if n := len(c.Signer); n != 0 && n != sha256.Size {
		bad(tee.CodeParse, "signer", "none or 32 bytes", fmt.Sprintf("%d bytes", n))
	}
	if len(c.Signer) == 0 && (c.Product != 0 || c.SVN != 0) {
		bad(tee.CodeParse, "signer", "a signer for product and svn", "none")
	}
	for _, err := range []error{
		validName("instance_id", c.InstanceID, MaxInstanceID), validName("role", c.Role, MaxWall),
		validWalls("walls", c.Walls), validWalls("missing_walls", c.MissingWalls),
	} {
		if err != nil {
			bad(tee.CodeParse, "claims", "names within their bounds", printable(err.Error()))
		}
	}
	return failures
}

func checkMeasurement(c eatClaims, bad func(code tee.Code, claim, want, got string)) {
	if len(c.LaunchDigest) != sha256.Size || len(c.RuntimeDigest) != sha256.Size {
		bad(tee.CodeParse, "launch_digest and runtime_digest", "32 bytes each", fmt.Sprintf("%d and %d bytes", len(c.LaunchDigest), len(c.RuntimeDigest)))
		return
	}
	if want := Expect([32]byte(c.RuntimeDigest), [32]byte(c.LaunchDigest)); !want.Equal(c.Measurement) {
		bad(tee.CodeBinding, "measurement", want.String(), printable(hex.EncodeToString(c.Measurement)))
	}
}

// claimsFrom returns the claims in the words that all TEEs share.
func claimsFrom(c eatClaims, platformID [32]byte) tee.Claims {
	return tee.Claims{
		TEE:          tee.Software,
		Simulated:    true,
		Debug:        c.DebugStatus != debugDisabledSinceBoot,
		Measurement:  c.Measurement,
		LaunchDigest: c.LaunchDigest,
		Signer:       c.Signer,
		Product:      c.Product,
		SVN:          c.SVN,
		ReportData:   c.Nonce,
		InstanceID:   c.InstanceID,
		Platform:     hex.EncodeToString(platformID[:]),
		TCB:          tee.TCBNotApplicable,
		Vendor: map[string]any{
			"runtime_digest": hex.EncodeToString(c.RuntimeDigest),
			"role":           c.Role,
			"walls":          anyList(c.Walls),
			"missing_walls":  anyList(c.MissingWalls),
			"profile":        c.Profile,
		},
	}
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
