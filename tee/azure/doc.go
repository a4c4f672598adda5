// Package azure verifies evidence of Azure's confidential VMs: a quote of the vTPM
// that Azure's paravisor (HCL) keeps, the paravisor's report that vouches for the
// vTPM's key, and the hardware's report or quote that vouches for the paravisor.
// [NewSNP] and [NewTDX] return the verifiers; they take the verifier of the
// hardware, so that this package knows nothing of AMD or Intel. [OpenSNP] and
// [OpenTDX] return an [Attester] inside such a VM; it is the one place here that
// uses a network: the host's metadata service.
//
// # What it protects against
//
// Quotes of a key that the paravisor does not name; paravisor reports that the
// hardware's report data does not commit to, or that were altered; hardware
// reports that do not verify; reports that software beside the paravisor asked
// for (SEV-SNP: VMPL above 0, where a guest could name a key of its own); register
// values and event logs that the quote does not cover. Every check that can be
// made is made and every failure of all layers listed.
//
// # What it does not protect against
//
// Another program in the paravisor's place. On any machine of one's own one can
// launch a program that names any key as its vTPM's, and all signatures verify:
// what tells the genuine paravisor is the measurement, so a policy that does not
// name measurements proves only that some confidential VM made the evidence. The
// paravisor itself, which is Microsoft's and keeps the vTPM. Recordings: freshness
// is the report data, the quote's extraData, which the caller compares
// (attest.BindTo). What packages tee/snp, tee/tdx, tee/tpm and tee/eventlog say
// they cannot see.
//
// # Evidence
//
// Evidence.Data is JSON in one of the two forms that Azure's guest software writes
// ([Envelope]): verbose (integer arrays and PEM) or compact (base64url or hex). A
// paravisor report alone is recognised and refused, as nothing in it is fresh.
//
// The format of the paravisor's report is in "Guest attestation for confidential
// VMs" (learn.microsoft.com, section "Attestation report").
package azure
