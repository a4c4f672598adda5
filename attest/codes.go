package attest

import "github.com/cloister-cc/cloister/tee"

// The reasons that appraisal gives, beside those of verification in package
// tee. A rule of a policy may bring its own code.
const (
	CodePolicyInvalid tee.Code = "policy_invalid"       // the policy does not compile
	CodePolicyEmpty   tee.Code = "policy_empty"         // there is no policy, and no policy accepts nothing
	CodeTEE           tee.Code = "tee_not_accepted"     // the policy does not name this TEE
	CodeSimulated     tee.Code = "simulated"            // simulated evidence, and the policy does not allow it
	CodeDebug         tee.Code = "debug"                // a debug instance, and the policy does not allow it
	CodeMeasurement   tee.Code = "measurement"          // other code than the policy names
	CodeLaunchDigest  tee.Code = "launch_digest"        // another launch document than the policy names
	CodeSigner        tee.Code = "signer"               // signed by nobody or by a signer the policy does not name
	CodeSVN           tee.Code = "svn"                  // right signer and product, but an older security version
	CodeTCB           tee.Code = "tcb"                  // TCB status that the policy does not name
	CodePlatform      tee.Code = "platform_not_allowed" // a platform outside the allow-list
	CodeFinding       tee.Code = "finding"              // verification found something that the policy refuses
	CodeRule          tee.Code = "rule"                 // a rule of the policy did not hold
)

// FindingBindingUnchecked is the code of the finding that [WithoutFreshness]
// leaves behind: the evidence may have been recorded long ago, by anybody.
const FindingBindingUnchecked tee.Code = "binding_unchecked"

// The reasons for which a [TokenVerifier] refuses a token.
const (
	CodeTokenMalformed tee.Code = "token_malformed"  // not a JWS or COSE_Sign1 with EAR claims in our one form
	CodeTokenAlgorithm tee.Code = "token_algorithm"  // alg is not ES256 or ES384, or not the key's own
	CodeTokenKey       tee.Code = "token_key"        // kid is not among the keys of the verifier
	CodeTokenSignature tee.Code = "token_signature"  // the signature does not verify
	CodeTokenIssuer    tee.Code = "token_issuer"     // issued by somebody else
	CodeTokenAudience  tee.Code = "token_audience"   // issued for somebody else
	CodeTokenProfile   tee.Code = "token_profile"    // not the EAR profile that we know
	CodeTokenExpired   tee.Code = "token_expired"    // past exp
	CodeTokenFuture    tee.Code = "token_future"     // before nbf or iat
	CodeTokenStale     tee.Code = "token_stale"      // iat is older than MaxAge
	CodeTokenLifetime  tee.Code = "token_lifetime"   // exp - iat is longer than MaxLifetime
	CodeTokenStatus    tee.Code = "token_status"     // a device's status is not affirming
	CodeTokenSimulated tee.Code = "token_simulated"  // simulated result, and AllowSimulated is not set
	CodeTokenDebug     tee.Code = "token_debug"      // result of a debug instance, and AllowDebug is not set
	CodeTokenNonce     tee.Code = "token_nonce"      // eat_nonce is not the expected one
	CodeTokenBinding   tee.Code = "token_key_bind"   // cnf is not the expected key
	CodeTokenPolicy    tee.Code = "token_policy"     // appraised under another policy
	CodeTokenConfig    tee.Code = "token_unprepared" // the TokenVerifier lacks keys, issuer, audience or clock
)
