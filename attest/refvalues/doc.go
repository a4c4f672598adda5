// Package refvalues reads reference values (RFC 9334 section 8.3): what evidence
// is compared with, stated by those who built or measured the code. It reads
//
//   - CoRIM (draft-ietf-rats-corim), unsigned or signed with COSE_Sign1, with the
//     profiles for AMD SEV-SNP (draft-deeglaze-amd-sev-snp-corim-profile) and
//     Intel (draft-cds-rats-intel-corim-profile) as far as those drafts go,
//   - in-toto statements in DSSE envelopes with a predicate of ours,
//   - the output of "cloister instance measure -o json".
//
// It also verifies Microsoft's endorsements of utility VMs, whose issuer is a
// did:x509 ([VerifyUVM]): each is of one launch measurement.
//
// The result of the others is [Values]: alternatives, each of which is a list of
// conditions on the claims tree. [Values.Apply] puts them into an appraisal policy.
//
// # What it protects against
//
// Reference values that mean less in the policy than in the document. Everything
// in a part that is used has to be understood: an unknown key, a mask or an
// operator that a policy cannot express is an error and never left out, because
// a condition that is left out accepts more. Conditions that belong together
// stay together. Apply fills what a policy leaves open and never widens what it
// says.
//
// # What it does not protect against
//
// A signer that should not be trusted with these values: who may speak for which
// code is for the caller, who passes the keys. Unsigned documents are only read
// when the caller says so. The drafts are drafts: their numbers can change.
//
// Nothing here reads a clock, a file or the network.
package refvalues
