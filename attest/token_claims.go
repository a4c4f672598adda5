package attest

import (
	"encoding/json"
	"math"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// bad adds what is wrong with a body that has a good signature.
func (r *refusals) bad(claim, want string) {
	r.add(CodeTokenMalformed, claim, want, "another form", "defect of the issuer: report it")
}

// parseClaims reads the JSON body of a token whose signature has been verified.
func parseClaims(raw []byte) (c earClaims, r refusals) {
	switch {
	case checkMembers(raw, claimName) != nil:
		r.bad("claims", "one JSON object with each member once")
	case profileOf(raw) != EARProfile:
		r.add(CodeTokenProfile, "eat_profile", EARProfile, "another", "the token is of another kind or version")
	case json.Unmarshal(raw, &c) != nil:
		r.bad("claims", "the members of an EAR of this issuer")
	}
	return c, r
}

// read takes the result out of a body. It refuses one in which a claim is
// missing or contradicts another.
func (c *earClaims) read() (earAppraisal, *Result, refusals) {
	var r refusals
	bad := r.bad
	device, ok := c.Devices[deviceName]
	switch {
	case !ok || len(c.Devices) != 1:
		bad("submods", "one device, "+deviceName)
	case c.Issuer == "" || c.ID == "" || c.VerifierID == nil || c.Simulated == nil || c.Debug == nil || c.Cloister == nil:
		bad("claims", "every required member")
	case !goodDate(c.IssuedAt) || !goodDate(c.NotBefore) || !goodDate(c.Expires):
		bad("iat, nbf, exp", "whole seconds")
	}
	if len(r) > 0 {
		return earAppraisal{}, nil, r
	}
	res := &Result{
		Issuer: c.Issuer, ID: c.ID, IssuedAt: time.Unix(*c.IssuedAt, 0).UTC(), Expires: time.Unix(*c.Expires, 0).UTC(),
		Status: device.Status, Simulated: *c.Simulated, Debug: *c.Debug, Findings: c.Cloister.Findings,
		VerifiedAt: time.Unix(c.Cloister.VerifiedAt, 0).UTC(),
	}
	if c.Audience != nil {
		if res.Audience = *c.Audience; res.Audience == "" {
			bad("aud", "a name, or no such member")
		}
	}
	res.readDigests(c, device, bad)
	res.readTree(c, device, bad)
	res.readBinding(c, bad)
	return device, res, r
}

func (res *Result) readDigests(c *earClaims, device earAppraisal, bad func(claim, want string)) {
	var ok [3]bool
	res.EvidenceDigest, ok[0] = digestFromHex(c.Cloister.EvidenceDigest)
	res.EndorsementsDigest, ok[1] = digestFromHex(c.Cloister.EndorsementsDigest)
	res.PolicyDigest, ok[2] = device.policyDigest()
	if ok != [3]bool{true, true, true} {
		bad("digests", "SHA-256 in lower-case hex")
	}
}

// readTree takes the claims tree, which everything that the token says about the
// device elsewhere must agree with.
func (res *Result) readTree(c *earClaims, device earAppraisal, bad func(claim, want string)) {
	var s treeSummary
	if res.Claims = c.Cloister.Claims; summarize(res.Claims, &s) != nil {
		bad("cloister.claims", "a claims tree")
		return
	}
	res.TEE = s.TEE
	if _, err := tee.ParseKind(string(s.TEE)); err != nil {
		bad("cloister.claims", "a known TEE")
	}
	if s.Simulated != res.Simulated || s.Debug != res.Debug || (s.TEE == tee.Software && !s.Simulated) {
		bad("cloister.simulated", "what the claims tree says")
	}
	if !device.equal(appraisalOf(s, res.PolicyDigest)) {
		bad("submods", "the status and vector that the claims deserve")
	}
}

func (res *Result) readBinding(c *earClaims, bad func(claim, want string)) {
	if c.Nonce != nil {
		var ok bool
		if res.Nonce, ok = decode64(*c.Nonce); !ok || len(res.Nonce) < minNonce || len(res.Nonce) > maxNonce {
			bad("eat_nonce", "8 to 64 bytes, base64url")
		}
	}
	if c.Confirm == nil {
		return
	}
	if c.Confirm.JWK == nil {
		bad("cnf", "a jwk")
		return
	}
	k, err := c.Confirm.JWK.public()
	if err != nil || c.Confirm.JWK.Kid+c.Confirm.JWK.Use+c.Confirm.JWK.Alg != "" {
		bad("cnf", "a P-256 or P-384 key")
		return
	}
	res.Confirm = k.public
}

// profileOf is the profile of a body, which decides how to read the rest.
func profileOf(raw []byte) string {
	var p struct {
		Profile string `json:"eat_profile"`
	}
	_ = json.Unmarshal(raw, &p) // another type is another profile
	return p.Profile
}

// summarize takes the claims that the rest of a token depends on.
func summarize(tree map[string]any, s *treeSummary) error {
	kind, ok1 := tree["tee"].(string)
	simulated, ok2 := tree["simulated"].(bool)
	debug, ok3 := tree["debug"].(bool)
	tcb, ok4 := tree["tcb_status"].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return ErrToken
	}
	*s = treeSummary{TEE: tee.Kind(kind), Simulated: simulated, Debug: debug, TCB: tee.TCBStatus(tcb)}
	return nil
}

// goodDate keeps arithmetic on dates far from overflow.
func goodDate(s *int64) bool { return s != nil && *s >= 0 && *s < math.MaxInt32<<8 }
