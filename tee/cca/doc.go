// Package cca verifies evidence of Arm CCA realms: the attestation token of the
// Realm Management Monitor, which is a platform token and a realm token in one.
// [New] returns the verifier; [Verifier] says what it takes and what its claims
// mean. Package ccatest has a platform of its own for tests.
//
// # What it protects against
//
// Tokens that no platform made whose key the relying party enrolled, or that were
// altered; a realm token beside a platform token of another boot or another
// platform, as the platform signs the digest of the realm's key; platforms whose
// lifecycle is not secured, by the claim debug. Every check that can be made is
// made and every failure listed.
//
// # What it does not protect against
//
// Keys that should not have been enrolled: Arm has no root that vouches for all
// platforms, and no list says which were revoked, so a CPAK is trusted because
// somebody compared it with what its maker published. A policy that accepts the
// wrong realm: the measurement is of what was in the realm when it was activated,
// and what it measured since is in its extensible measurements, which a policy has
// to name. Old firmware: which components are current is a matter of reference
// values, so the TCB status is always Unknown. Recordings: freshness is the realm's
// challenge, which the caller compares (attest.BindTo).
//
// Formats and rules are from "Arm's Confidential Compute Architecture Reference
// Attestation Token" (draft-ffm-rats-cca-token) and the "Realm Management Monitor
// specification" (DEN0137), section "Realm attestation".
package cca
