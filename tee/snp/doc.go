// Package snp verifies evidence of AMD SEV-SNP: attestation reports of version
// 2, 3 and 5 from Milan, Genoa and Turin, signed by a VCEK (a chip's own key) or
// a VLEK (a cloud provider's key), with AMD's certificate chains. It needs
// nothing but the standard library.
//
// # What it protects against
//
// Reports that no genuine AMD processor signed, or that were altered; genuine
// reports presented with the certificate of another chip, another firmware
// level or another product; revoked signing keys of AMD, when a revocation list
// is given. Every check is made and every failure listed. Debug is a claim.
//
// # What it does not protect against
//
// A policy that accepts the wrong measurement; firmware with known holes, as
// the TCB status is Unknown unless the caller gives a minimum ([MinimumTCB]); a
// chip key that was extracted by physical attack; recordings, since freshness
// is the report data, which the caller compares (attest.BindTo). HOST_DATA, the
// launch digest, is set by the host at launch and cannot change afterwards: it
// is a fact about the guest, but only a policy that names it makes it count.
// Without a revocation list the finding collateral_missing says so.
//
// Formats and rules are from AMD's "SEV Secure Nested Paging Firmware ABI
// Specification" (56860) and "Versioned Chip Endorsement Key (VCEK) Certificate
// and KDS Interface Specification" (57230).
package snp
