// Package maa is a face that speaks the protocol of Azure Attestation: clients
// made for Microsoft's service attest SGX enclaves, SEV-SNP and TDX VMs here,
// and administer policies, without a change. The sources are the REST
// specification (azure-rest-api-specs, data-plane/Attestation, 2020-10-01 to
// 2025-06-01), Microsoft's clients for JavaScript and Python, and the pages on
// learn.microsoft.com that package azurepolicy names.
//
// Guests of Azure's confidential VMs, which use Microsoft's guest attestation
// library, get a token that only the TPM of the VM can open (AzureGuest).
//
// A [Service] has attestation providers, as Azure has: each with an owner,
// policies and signing keys of its own, under /azure/NAME; and the provider
// [Shared], at the root, which nobody owns: it applies the default policies and
// anybody may use it. Its state goes to a [Log].
//
// # What it protects against
//
// A token for evidence that was not verified, or that no policy of the provider
// permits; a policy that the provider's owner did not set, or, of an isolated
// provider, that no policy signer signed; tokens of one provider passed off as
// another's, for no key signs for two. Evidence whose collateral is missing or
// stale, and platforms below what their vendor asks for, are refused unless the
// provider or its policy says otherwise.
//
// # What it does not protect against
//
// A relying party that does not verify its token. Microsoft's client for
// JavaScript, in its default form, accepts tokens with alg none, of another
// issuer, and of a key that the token itself brings: pass validateIssuer. Tokens
// that were asked for without runtime data prove a genuine enclave and not that
// it is the peer at hand.
package maa
