//go:build !wasip1

package tee

import (
	"crypto/x509"
	"time"
)

// Endorsements is what vouches for the attester's platform (RFC 9334 section
// 8.2): certificates, revocation lists and vendor collateral. All of it is
// untrusted input that the verifier checks against its roots.
type Endorsements struct {
	Certificates [][]byte          // DER certificates, any order
	CRLs         [][]byte          // DER certificate revocation lists
	Collateral   map[string][]byte // vendor documents by name, exact bytes
}

// Roots are the trust anchors of one TEE. Nil means the vendor's roots that
// are embedded in the verifier; the software TEE embeds none, so nil refuses
// there.
type Roots []*x509.Certificate

// Input is everything beside the evidence that a verdict depends on. The same
// evidence and input give the same verdict for ever.
type Input struct {
	Endorsements Endorsements
	Roots        Roots
	// At is the time at which certificates and lists must be valid. It is the
	// caller's clock, never one inside the evidence. The zero time refuses.
	At time.Time
	// Grace is by how much vendor collateral and revocation lists may be past
	// their next update; the finding CodeCollateralExpired then says so.
	// Certificates get none. Zero refuses what is stale.
	Grace time.Duration
}

// Current says whether collateral that is good from one time to another holds at
// At, and whether it only does so thanks to Grace.
func (in Input) Current(from, until time.Time) (holds, late bool) {
	if in.At.Before(from) {
		return false, false
	}
	late = in.At.After(until)
	return !late || !in.At.After(until.Add(max(in.Grace, 0))), late
}

// Verifier checks the evidence of one TEE: format, signatures, chains and
// internal bindings. Implementations are pure: no I/O, no clock. They are safe
// for concurrent use.
type Verifier interface {
	// Kind is the TEE that it verifies.
	Kind() Kind
	// Detect reports whether data has the outer shape of this TEE's evidence.
	// It is cheap and proves nothing.
	Detect(data []byte) bool
	// Verify returns what the evidence proves. The error is a *VerifyError that
	// lists every check that failed; then the claims are zero.
	Verify(ev Evidence, in Input) (Claims, []Finding, error)
}
