// Package tdx verifies evidence of Intel TDX trust domains (TDs): ECDSA quotes
// (DCAP) of version 4 and 5 with reports of TDX 1.0 and 1.5. [New] returns the
// verifier; [Verifier] says what it takes and what its claims mean. Package dcap
// does what SGX and TDX have in common. Inside a TD, [Attester] asks the kernel for
// a quote; with older kernels, [DeviceAttester] asks the TDX module and the host.
//
// # What it protects against
//
// Quotes that no genuine Intel platform made, or that were altered; TDX modules
// that Intel did not sign; platforms that are revoked, and, given Intel's
// collateral, platforms whose firmware or TDX module is old, with TDs that only
// have to be started again told apart. Every check that can be made is made and
// every failure listed. Debug is a claim.
//
// # What it does not protect against
//
// A policy that accepts the wrong TD: MRTD measures the firmware that the TD
// starts with, and what that loads is in the runtime registers RTMR0 to RTMR3,
// which a policy has to name or compare with an event log. MRCONFIGID, the
// launch digest, is set by the host at launch and cannot change afterwards: it
// is a fact about the TD, but only a policy that names it makes it count.
// Recordings, since freshness is the report data, which the caller compares
// (attest.BindTo). Platforms whose keys were extracted with physical access
// (TEE.fail, 2025), whose quotes are genuine by every signature: name the
// platforms that you know by their PPID.
//
// Formats and rules are from Intel's "TDX DCAP Quoting Library API", appendix A,
// "TDX Module Base Architecture Specification" and the PCS API, v4.
package tdx
