// Package snp verifies evidence of AMD SEV-SNP: attestation reports of version
// 2, 3 and 5 from Milan, Genoa and Turin, signed by a VCEK (a chip's own key) or
// a VLEK (a cloud provider's key), with AMD's certificate chains. It needs
// nothing but the standard library and, for the device, x/sys. [New] returns the
// verifier; [Verifier] says what it takes and what its claims mean. Inside a guest,
// [Attester] asks the kernel for a report, and [DeviceAttester] older kernels.
//
// # What it protects against
//
// Reports that no genuine AMD processor signed, or that were altered; genuine
// reports presented with the certificate of another chip, another firmware
// level, another product or another kind of key; keys that the wrong signing
// certificate of AMD vouches for; reports that the host asked for instead of
// the guest; certificates that are not valid at the caller's time; revoked
// signing certificates, when a revocation list is given. Every check that can be
// made is made and every failure listed. Debug is a claim.
//
// # What it does not protect against
//
// A policy that accepts the wrong measurement; firmware with known holes, as
// the TCB status is Unknown unless the caller gives a minimum ([MinimumTCB]); a
// chip key that was extracted, which AMD's lists cannot revoke one by one, as
// all VCEKs and VLEKs have serial number 0 (name the platforms that you know);
// recordings, since freshness is the report data, which the caller compares
// (attest.BindTo). HOST_DATA, the launch digest, is set by the host at launch
// and cannot change afterwards: it is a fact about the guest, but only a policy
// that names it makes it count. Software in a guest's lower privilege levels
// (claim vmpl) can ask for reports too. Without a revocation list the finding
// collateral_missing says so.
//
// Package snptest has an AMD of its own for tests.
//
// Formats and rules are from AMD's "SEV Secure Nested Paging Firmware ABI
// Specification" (56860) and "Versioned Chip Endorsement Key (VCEK) Certificate
// and KDS Interface Specification" (57230).
package snp
