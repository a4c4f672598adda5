// Package rcar serves the attestation half of the protocol with which guests of
// Confidential Containers ask a Key Broker Service for secrets:
// request-challenge-attestation-response (confidential-containers/trustee,
// kbs/docs/kbs_attestation_protocol.md). A guest asks POST /kbs/v0/auth for a
// nonce, sends evidence over it to POST /kbs/v0/attest, and gets a token. Guests
// need no change for it; nothing here releases a resource.
//
// # What it protects against
//
// A recording: every nonce is of 32 random bytes, good once and for minutes,
// whether the attempt succeeded or not. Another key: the token names the guest's
// key, and the evidence must carry the digest of the nonce and that key; that it
// does is compared here once more, whatever [Config.Verify] says. A flood: bodies,
// sessions and their lifetime are bounded, and the oldest sessions make room for
// new ones. Answers never repeat what was sent.
//
// # What it does not protect against
//
// A man in the middle of HTTP: serve it over TLS, as the protocol demands. The
// policy: [Config.Issue] must ask it.
//
// # What is read
//
// Protocol versions 0.4.0 (guest-components v0.14 to v0.21 and later), and 0.2.0
// and 0.1.1 (v0.10 to v0.13), whose evidence lies flat and whose report data does
// not cover additional evidence. 0.3.0 was in no release; 0.1.0 is refused.
//
//	tee                        is                  evidence
//	snp                        tee.SNP             report as JSON of the sev crate from 6.2 on, rebuilt
//	tdx                        tee.TDX             quote, and cc_eventlog
//	sgx                        tee.SGX             quote
//	az-snp-vtpm (azsnpvtpm)    tee.AzureSNP        as package tee/azure reads it
//	az-tdx-vtpm (aztdxvtpm)    tee.AzureTDX        as package tee/azure reads it
//
// The report data is SHA-384 over the RFC 8785 form of the runtime data, and then
// zeroes up to 64 bytes; the vTPM of the Azure kinds quotes the 48 bytes alone.
// The hash is not negotiated: SHA-384 is what guests use when they are not told.
//
// Refused by name: sample and sample devices, which prove nothing, other TEEs,
// additional evidence (of devices), and keys for which a token has no words: RSA
// and P-521. Init data is not read: its digest is in the claims (host_data,
// mr_config_id), where a policy can name it.
package rcar
