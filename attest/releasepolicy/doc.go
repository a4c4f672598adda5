// Package releasepolicy is the policy of secure key release as Azure Key Vault
// and Managed HSM write it: JSON that names authorities (issuers of tokens) and
// conditions on the claims of their tokens. The sources are Microsoft's pages
// "Azure Key Vault secure key release policy grammar" and "Secure key release
// policy examples"; comments name what they leave open and what is done here.
//
//	{"version": "1.0.0", "anyOf": [{
//	  "authority": "https://attest.example",
//	  "allOf": [{"claim": "x-ms-sgx-is-debuggable", "equals": false},
//	            {"claim": "x-ms-isolation-tee.x-ms-attestation-type", "equals": "sevsnpvm"}]}]}
//
// [Parse] reads it, [Policy.Evaluate] decides over the claims of a token that was
// verified and the issuer that it was verified against.
//
// # What it protects against
//
// Releases by mistake. A claim that is not there, that has another type or that
// could be meant in two ways does not meet a condition, whatever the operator;
// that holds for notEquals, too. Unknown, duplicate and misspelled members,
// empty lists and other versions are refused when a policy is read. The zero
// Policy releases nothing.
//
// # What it does not protect against
//
// Claims that nobody verified. A policy that asks too little: one that names an
// authority and any claim of the platform says nothing about the code. Claims
// that the attested code says of itself (x-ms-runtime): conditions on those bind
// only honest code.
package releasepolicy
