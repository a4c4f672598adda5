// Package dcap verifies what SGX and TDX quotes have in common: ECDSA quotes of
// Intel's Data Center Attestation Primitives, the certificates of their
// platforms, and Intel's collateral. Packages sgx and tdx make claims of the
// result; use those. [ParseQuote] reads a quote without believing it.
//
// # What it protects against
//
// Quotes that no genuine Intel platform made, or that were altered at any byte
// that is signed; a quote whose key is not the quoting enclave's; certificates
// under other roots, or issued by a certificate that is no authority; other
// certificates of Intel in place of a platform's; revoked and expired
// certificates; TCB information and enclave identities that Intel did not sign,
// that are stale, of another family of platforms, or signed by a key for
// something else. Every check that can be made is made and every failure
// listed.
//
// # What it does not protect against
//
// Missing collateral: it is a finding, and the status of the platform is then
// Unknown; a policy decides. Bytes behind a quote are not signed: they are
// ignored, with a finding. Platforms whose key was extracted make genuine
// quotes until Intel revokes them.
//
// Formats are from Intel's "SGX DCAP Quote Generation Library API" and "TDX DCAP
// Quoting Library API" (appendix A), "SGX PCK Certificate and CRL Profile" and
// the PCS API v4; the rules of evaluation are those of Intel's Quote
// Verification Library. Package dcaptest has an Intel of its own for tests.
package dcap
