// Package keys releases keys to attested code: a key owner imports or creates a
// key together with a release policy, and the service wraps it only to a key
// pair that fresh evidence of the code named by the policy vouches for. A
// released key is a lease: it ends unless renewed with fresh evidence, and a
// changed policy ends it at the next renewal. Every grant leaves a receipt.
//
// # What it protects against
//
// An operator, or anybody who can reach the service, who wants a key, another
// owner's policy changed, or yesterday's release repeated: keys leave only
// wrapped, only the owner (by the key of the client certificate) changes a
// policy, nonces are used once.
//
// # What it does not protect against
//
// Code that an owner's own policy allows and that gives the key away, and a
// lease that has not ended yet.
package keys

import (
	"errors"
	"time"

	"github.com/cloister-cc/cloister/attest"
)

// Errors that a caller can act on. Their text is safe to show.
var (
	ErrNotFound   = errors.New("no such key, or not yours")
	ErrExists     = errors.New("a key of that name exists")
	ErrNoIdentity = errors.New("this call needs a client certificate: its key is the owner's identity")
	ErrNonce      = errors.New("the nonce was not given out by this service, was used before, or is older than a minute")
	ErrInvalid    = errors.New("invalid request")
)

// Lease bounds.
const (
	DefaultLease = time.Hour
	MinLease     = 5 * time.Second
	MaxLease     = 24 * time.Hour
)

// Policy is a release policy: who may have a key and for how long.
type Policy struct {
	// Appraisal is what the evidence of the code must meet. The zero policy
	// accepts nothing.
	Appraisal attest.Policy `json:"appraisal"`
	// LeaseSeconds is how long a release lasts; 0 means [DefaultLease].
	LeaseSeconds int `json:"lease_seconds,omitempty"`
}

func (p Policy) lease() time.Duration {
	if p.LeaseSeconds == 0 {
		return DefaultLease
	}
	return time.Duration(p.LeaseSeconds) * time.Second
}

// Key is what the service tells about a key: everything but the key.
type Key struct {
	Name    string    `json:"name"`
	Version uint32    `json:"version"`
	Owner   string    `json:"owner"` // SHA-256 of the owner's public key (SPKI), hex
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	Bytes   int       `json:"bytes"`
	Policy  Policy    `json:"policy"`
	// PolicyDigest names the policy in receipts, hex.
	PolicyDigest string `json:"policy_digest"`
}
