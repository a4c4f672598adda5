// Package azurepolicy is the policy language of Azure Attestation, versions 1.0,
// 1.1 and 1.2: policies written for Microsoft's service decide here over our
// verified claims, without a change. The sources are Microsoft's pages
// "Claim and claim rules", "Claim rule functions", "Attestation policy version
// 1.0 / 1.1 / 1.2", "Claim sets" and the sample policies (learn.microsoft.com,
// azure/attestation); comments below name the page that a decision rests on, or
// say that the pages are silent.
//
//	version= 1.0;
//	authorizationrules {
//	  [type=="x-ms-sgx-is-debuggable", value==false] => permit();
//	};
//	issuancerules {
//	  c:[type=="x-ms-sgx-mrsigner"] => issue(type="signer", value=c.value);
//	};
//
// [Parse] reads a policy, [Policy.Evaluate] decides over the claims that
// [IncomingClaims] makes of our claims tree, [ParseEnvelope] opens the JWS in
// which policies travel.
//
// # What it protects against
//
// Fail-open evaluation. Permitted needs at least one permit() whose conditions
// hold, no deny() whose conditions hold, and no error anywhere. Simulated and
// debug evidence is refused unless the policy names the claim or the caller
// allows it. Text, rules, claims and work are bounded, so neither a policy nor
// evidence can hold a verifier up.
//
// # What it does not protect against
//
// A policy that permits too much: "=> permit();" is valid and is Microsoft's
// default. Claims that the caller did not verify. Properties that the caller
// does not act on: see [KnownProperty].
//
// # Beyond the pages
//
// =~ and !~ (RE2, from version 1.2) are ours; [Policy.Extensions] lists where a
// policy uses them, for Azure's service does not document them. EXISTS, COUNT and
// other words of the AD FS language, from which this one descends, are not part
// of Microsoft's pages and are refused by name.
package azurepolicy
