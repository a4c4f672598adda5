// Package tpm verifies quotes of TPM 2.0 and asks a TPM for them: what a VM with
// a (v)TPM and measured boot can say about itself. It needs nothing but the
// standard library and a CBOR reader. [New] returns the verifier; [Verifier] says
// what it takes and what its claims mean. [Open] returns the attester.
// [MakeCredential] is the challenge with which a relying party enrols an
// attestation key (AK).
//
// # What it protects against
//
// Quotes that no trusted AK signed, or that were altered; other structures of a
// TPM presented as quotes; keys that could sign anything (not restricted);
// register values that are not the quoted ones; event logs that are not of this
// boot, and facts that a log says and no register covers (package eventlog).
// Every check that can be made is made and every failure listed.
//
// # What it does not protect against
//
// The host of a vTPM: it can read and change everything, and a genuine quote says
// nothing about memory encryption. An emulator that somebody enrolled or gave a
// certificate: nothing in a quote tells an emulator from a chip (swtpm even names
// IBM as its maker, as do chips of IBM), so Simulated is what the certificate of
// its key says, and whom a relying party enrols is what counts. A policy that accepts the wrong
// measurement. Resets of PCR 16 and 23, which any program can do: never compare
// digests over other registers than those that you name. Recordings: freshness
// is the report data (extraData), which the caller compares (attest.BindTo).
//
// # Evidence
//
// Evidence.Data is one of three formats. Ours is a deterministic CBOR map (RFC
// 8949 section 4.2.1) of byte strings ([Statement]):
//
//	{"pcrs": {TPM_ALG_ID: {index: value}},  exactly the registers that are quoted
//	 "quote": TPMS_ATTEST, "signature": TPMT_SIGNATURE,
//	 "ak_public": TPMT_PUBLIC, "ak_cert": DER}   one of the two may be missing
//
// The others are the protobuf message Attestation of go-tpm-tools (the first
// quote of the best bank counts) and the JSON dump of go-attestation.
//
// Package tpmtest has TPM keys, certificates and logs for tests.
//
// Structures are from "TPM 2.0 Library" (revision 1.59) parts 1 to 3, the rules
// for keys from "TCG EK Credential Profile" and "TPM 2.0 Keys for Device Identity
// and Attestation".
package tpm
