// Package attest turns evidence into a decision. A [Verifier] proves claims
// (signatures, chains, bindings), an [Appraiser] compares them with a [Policy],
// an [Issuer] states the outcome as a signed attestation result, and a
// [TokenVerifier] checks such a result at a relying party. The words are those
// of RFC 9334.
//
// # What it protects against
//
// Forgotten checks. There is no report with fields for the caller to compare:
// every function returns either a decision in favour or an error that lists
// every reason against. Zero values refuse: a zero [Binding], an empty [Policy],
// a zero [Appraiser] and a zero [TokenVerifier] accept nothing, and "not
// checked" has to be written ("any", [WithoutFreshness]).
//
// # What it does not protect against
//
// A policy that names the wrong measurement, a TEE whose keys leaked, and
// anything that a TEE's own room (tee/snp, tee/software) says it cannot see.
// Results of the software TEE are simulated: they say so in the claims and in
// the token, and policies refuse them unless they name both the TEE and
// allow_simulated.
//
// Nothing here reads a clock, a file or the network; time is an argument.
package attest
