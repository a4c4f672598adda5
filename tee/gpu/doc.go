// Package gpu verifies what NVIDIA's confidential computing GPUs say of themselves:
// SPDM 1.1 measurements (a request and its response) that a device of the Hopper
// generation or later signed, with its certificate chain. [New] returns the
// verifier; [Verifier] says what it takes and what its claims mean.
//
// # What it protects against
//
// Measurements that no genuine NVIDIA device signed, or that were altered; a chain
// that does not end in NVIDIA's device identity root; firmware other than the one
// that the device's own certificate names. Every check that can be made is made and
// every failure listed.
//
// # What it does not protect against
//
// A device that is genuine and in a mode in which its memory can be read: nothing in
// a report says so, which is why the claim debug is always true, and a policy has to
// allow it and name the measurements. Wrong or old firmware: what measurements mean
// is in NVIDIA's signed reference manifests (RIM), which this package does not read,
// so the TCB status is always Unknown. A device elsewhere: a report proves that some
// device answered the nonce, and not that it is the one that a virtual machine uses;
// the driver's session with the device is what binds them. Revoked devices: NVIDIA
// answers for single certificates only (OCSP), which takes a network, and the finding
// revocation_unknown says so.
//
// Formats and rules are from "Security Protocol and Data Model Specification"
// (DSP0274), 1.1, sections on measurements, and from NVIDIA's nvtrust.
package gpu
