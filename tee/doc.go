// Package tee holds what every trusted execution environment (TEE) has in
// common: the kind, evidence, endorsements, claims, the measurement, and the
// small interfaces that one room per TEE (tee/software, tee/snp, …)
// implements. It does no I/O and knows no vendor.
//
// # What it protects against
//
// A verifier that takes unproven bytes for facts: [Claims] are only made by a
// [Verifier] that has checked every signature, chain and binding first, and
// the zero value of every type here names no TEE and proves nothing.
//
// # What it does not protect against
//
// A policy that accepts the wrong claims (see package attest), and any defect
// of the TEE itself. The software TEE protects nothing from the host; its
// claims carry Simulated = true everywhere.
//
// The words are those of RFC 9334 (RATS architecture); docs/GLOSSARY.md lists
// them.
package tee
