// Package nitro verifies attestation documents of AWS Nitro Enclaves and asks an
// enclave's security module (NSM) for them. It needs nothing but the standard
// library and a CBOR reader. [New] returns the verifier; [Verifier] says what it
// takes and what its claims mean. [Open] returns the attester inside an enclave.
//
// # What it protects against
//
// Documents that no Nitro hypervisor signed, or that were altered; documents
// signed by a key that AWS's root does not vouch for, through a chain that is
// not one of certificate authorities; chains that are not valid at the caller's
// time; revoked certificates, when revocation lists are given; documents that
// break a rule of AWS's specification, or that could be read in two ways
// (duplicate keys, bytes after the end). Every check that can be made is made
// and every failure listed. Debug mode is a claim.
//
// # What it does not protect against
//
// AWS itself: the hypervisor that signs is AWS's, and nothing tells which
// machine it runs on or how current its firmware is, so the TCB status is
// always Unknown and there is no platform to allow-list. A policy that accepts
// the wrong measurement. Recordings: a document's certificate lives for hours,
// so freshness is the nonce or the report data, which the caller compares
// (attest.BindTo). Without revocation lists the finding revocation_unknown says
// so.
//
// Package nitrotest has an AWS of its own for tests.
//
// Formats and rules are from AWS's "Verifying the root of trust" and "Nitro
// Enclaves attestation process" (aws-nitro-enclaves-nsm-api,
// docs/attestation_process.md), COSE is RFC 9052.
package nitro
