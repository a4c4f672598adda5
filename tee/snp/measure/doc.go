// Package measure computes, before anything is launched and on any machine, the
// launch digest that a report of an AMD SEV-SNP guest will carry as its measurement:
// from the firmware, the number and kind of its virtual processors, the features that
// it is launched with and, with measured direct boot, the kernel, the initial RAM disk
// and the command line. [Launch] is the whole of it.
//
// The sources are AMD's SEV Secure Nested Paging Firmware ABI Specification (56860)
// section 8.17, for how a page is measured; the AMD64 Architecture Programmer's Manual
// volume 2 (24593) table B-4, for the save area of a virtual processor; the metadata
// that OVMF has at its end (edk2, OvmfPkg/ResetVector); and what the hypervisors set
// at the reset of a processor, which is nowhere specified, and is checked against
// digests that virtee/sev-snp-measure computes.
//
// # What it protects against
//
// Reference values that are taken from the machine that is to be appraised: a digest
// that was computed from what is meant to run says what runs.
//
// # What it does not protect against
//
// Firmware that does what its builder did not mean: the digest names it and does not
// read it. Hypervisors other than the [VMM] that is named reset processors otherwise,
// and have other digests for the same guest. Guests with a service module (SVSM) and
// images in the IGVM format are not computed.
package measure
