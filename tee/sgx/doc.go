// Package sgx verifies evidence of Intel SGX enclaves: ECDSA quotes (DCAP) of
// version 3, 4 and 5, bare, in Open Enclave's header or in a certificate of
// RA-TLS. [New] returns the verifier; [Verifier] says what it takes and what its
// claims mean. Package dcap does what SGX and TDX have in common.
//
// # What it protects against
//
// Quotes that no genuine Intel platform made, or that were altered; quotes by
// another enclave than Intel's quoting enclave; platforms that are revoked, and,
// given Intel's collateral, platforms whose firmware is old: the status says
// so. Every check that can be made is made and every failure listed. Debug is a
// claim.
//
// # What it does not protect against
//
// A policy that accepts the wrong enclave or an old status; recordings, since
// freshness is the report data, which the caller compares (attest.BindTo);
// platforms whose keys were extracted with physical access (WireTap, 2025), whose
// quotes are genuine by every signature: name the platforms that you know by
// their PPID. A certificate of RA-TLS proves that an enclave made its key, not
// that the peer of a connection is that enclave: relay attacks on it are
// published. Use package attest/channel for channels.
//
// Formats and rules are from Intel's "SGX DCAP Quote Generation Library API",
// appendix A, "SGX PCK Certificate and CRL Profile" and the PCS API, v4.
package sgx
