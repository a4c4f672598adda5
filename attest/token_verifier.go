package attest

import (
	"crypto/ecdsa"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// DefaultMaxLifetime is the longest time between iat and exp that a
// [TokenVerifier] accepts unless it says otherwise.
const DefaultMaxLifetime = time.Hour

// TokenVerifier says which attestation results a relying party accepts. It is a
// plain value: set Nonce and Confirm on a copy for each exchange. The zero value
// refuses everything; Keys, Issuer, an audience and a policy are required, and
// doing without the last two has to be written.
type TokenVerifier struct {
	// Keys are the issuer's, from a source that vouches for them. Keys inside a
	// token are never used.
	Keys KeySet
	// Issuer is the iss to accept.
	Issuer string
	// Audience is this relying party's name, which the token must carry as aud.
	Audience string
	// AllowNoAudience accepts tokens without aud, for whoever they were made.
	AllowNoAudience bool
	// Policies are digests of policies to accept, see [Policy.Digest].
	Policies [][32]byte
	// AllowAnyPolicy accepts the policy of whoever asked for the token. Hazard:
	// on a node that appraises under the requester's policy that is anybody.
	AllowAnyPolicy bool
	// MaxAge, when set, refuses tokens issued longer ago.
	MaxAge time.Duration
	// MaxLifetime refuses tokens made to last longer; 0 means
	// [DefaultMaxLifetime].
	MaxLifetime time.Duration
	// Leeway is by how much the issuer's clock and this one may differ.
	Leeway time.Duration
	// AllowSimulated and AllowDebug accept what production must not, AllowWarning
	// outdated firmware and memory that the host can read.
	AllowSimulated bool
	AllowDebug     bool
	AllowWarning   bool
	// Nonce, when set, must be the token's eat_nonce.
	Nonce []byte
	// Confirm must be the key in the token's cnf: a key whose private half the
	// bearer has just proven to hold. A token that names a key is refused without.
	Confirm *ecdsa.PublicKey
}

// Result is an attestation result that a [TokenVerifier] accepted.
type Result struct {
	Issuer   string
	ID       string // jti
	KeyID    string
	Audience string // empty for none
	IssuedAt time.Time
	Expires  time.Time
	Status   Status
	// PolicyDigest names the policy that accepted the claims.
	PolicyDigest [32]byte
	TEE          tee.Kind
	Simulated    bool
	Debug        bool
	// Claims is the claims tree, see [tee.Claims.Tree].
	Claims   map[string]any
	Findings []tee.Finding
	// EvidenceDigest and EndorsementsDigest name what the verdict was reached
	// over, VerifiedAt the issuer's time at that moment.
	EvidenceDigest     [32]byte
	EndorsementsDigest [32]byte
	VerifiedAt         time.Time
	Nonce              []byte           // eat_nonce, nil for none
	Confirm            *ecdsa.PublicKey // key in cnf, nil for none
}

// Verify returns what a token says if it is acceptable at the given time. The
// error is a [*TokenError]; content is judged only after the signature verified.
func (v TokenVerifier) Verify(token string, at time.Time) (*Result, error) {
	return v.verify(at, func() (earClaims, tokenKey, refusals) {
		raw, key, r := openToken(token, v.Keys)
		if len(r) > 0 {
			return earClaims{}, tokenKey{}, r
		}
		c, r := parseClaims(raw)
		return c, key, r
	})
}

// verify judges what open takes out of a token, whose signature it has verified.
func (v TokenVerifier) verify(at time.Time, open func() (earClaims, tokenKey, refusals)) (*Result, error) {
	if r := v.unprepared(at); len(r) > 0 {
		return nil, refuseToken(r)
	}
	c, key, r := open()
	if len(r) > 0 {
		return nil, refuseToken(r)
	}
	device, res, r := c.read()
	if len(r) > 0 {
		return nil, refuseToken(r)
	}
	res.KeyID = key.id
	v.checkParties(&r, &c)
	v.checkTime(&r, &c, at)
	v.checkStatus(&r, device, res)
	v.checkPossession(&r, res)
	if len(r) > 0 {
		return nil, refuseToken(r)
	}
	return res, nil
}

// unprepared lists what the relying party has not said.
func (v TokenVerifier) unprepared(at time.Time) (r refusals) {
	need := func(missing bool, claim, want string) {
		if missing {
			r.add(CodeTokenConfig, claim, want, "", "defect of the relying party's configuration")
		}
	}
	need(len(v.Keys.keys) == 0, "keys", "the issuer's keys")
	need(v.Issuer == "", "iss", "the issuer to accept")
	need(v.Audience == "" && !v.AllowNoAudience, "aud", "an audience, or AllowNoAudience")
	need(len(v.Policies) == 0 && !v.AllowAnyPolicy, "ear.appraisal-policy-id", "policies, or AllowAnyPolicy")
	need(at.IsZero(), "at", "a time to verify at")
	need(v.Leeway < 0 || v.MaxAge < 0 || v.MaxLifetime < 0, "at", "durations that are not negative")
	need(v.Nonce != nil && len(v.Nonce) < minNonce, "eat_nonce", "a nonce that is not too short to be one")
	if v.Confirm != nil {
		_, err := newTokenKey(v.Confirm)
		need(err != nil, "cnf", "a P-256 or P-384 key")
	}
	return r
}

func (v TokenVerifier) checkParties(r *refusals, c *earClaims) {
	if c.Issuer != v.Issuer {
		r.add(CodeTokenIssuer, "iss", v.Issuer, c.Issuer, "ask the issuer that you trust for a token")
	}
	switch {
	case c.Audience == nil && !v.AllowNoAudience:
		r.add(CodeTokenAudience, "aud", v.Audience, "", "ask for a token for this audience")
	case c.Audience != nil && (*c.Audience != v.Audience || v.Audience == ""):
		r.add(CodeTokenAudience, "aud", v.Audience, *c.Audience, "the token was made for somebody else")
	}
}

func (v TokenVerifier) checkTime(r *refusals, c *earClaims, at time.Time) {
	show := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	issued, begin, end := time.Unix(*c.IssuedAt, 0), time.Unix(*c.NotBefore, 0), time.Unix(*c.Expires, 0)
	longest := v.MaxLifetime
	if longest == 0 {
		longest = DefaultMaxLifetime
	}
	if !at.Before(end.Add(v.Leeway)) {
		r.add(CodeTokenExpired, "exp", "after "+show(at), show(end), "ask the attester for a new token")
	}
	if at.Add(v.Leeway).Before(begin) || at.Add(v.Leeway).Before(issued) {
		r.add(CodeTokenFuture, "iat", "not after "+show(at), show(issued), "one of the two clocks is wrong")
	}
	if v.MaxAge > 0 && at.Sub(issued) > v.MaxAge+v.Leeway {
		r.add(CodeTokenStale, "iat", "at most "+v.MaxAge.String()+" ago", show(issued), "ask the attester for a new token")
	}
	if end.Sub(issued) > longest || !end.After(issued) {
		r.add(CodeTokenLifetime, "exp", "at most "+longest.String()+" after iat", end.Sub(issued).String(), "the issuer makes tokens that last too long for this purpose")
	}
}

// checkStatus judges the device by the vector that its claims deserve; parse has
// seen to it that the token says no other.
func (v TokenVerifier) checkStatus(r *refusals, device earAppraisal, res *Result) {
	if res.Simulated && !v.AllowSimulated {
		r.add(CodeTokenSimulated, "cloister.simulated", "false", "true", "simulated evidence protects nothing from the host")
	}
	if res.Debug && !v.AllowDebug {
		r.add(CodeTokenDebug, "cloister.debug", "false", "true", "the host can read a debug instance")
	}
	status := device.Status
	if device.Vector != nil && (res.Simulated || res.Debug) {
		// What simulated and debug mean for the tier was said, and judged, above.
		rest := *device.Vector
		rest.RuntimeOpaque = 0
		status = rest.status()
	}
	if status != StatusAffirming && (status != StatusWarning || !v.AllowWarning) {
		r.add(CodeTokenStatus, "ear.status", string(StatusAffirming), string(status), "the claims were not accepted, or have a known weakness")
	}
	if !v.AllowAnyPolicy && !slices.Contains(v.Policies, res.PolicyDigest) {
		r.add(CodeTokenPolicy, "ear.appraisal-policy-id", fmt.Sprintf("one of %d policies", len(v.Policies)), hex.EncodeToString(res.PolicyDigest[:]), "appraise under a policy that the relying party names")
	}
}

// checkPossession ties the token to this exchange and to its bearer.
func (v TokenVerifier) checkPossession(r *refusals, res *Result) {
	if v.Nonce != nil && subtle.ConstantTimeCompare(v.Nonce, res.Nonce) != 1 {
		r.add(CodeTokenNonce, "eat_nonce", "the nonce of this exchange", "another", "the token may be a recording: ask for one with this nonce")
	}
	switch {
	case v.Confirm == nil && res.Confirm != nil:
		r.add(CodeTokenBinding, "cnf", "no key", "a key", "have the bearer prove that it holds the key, and pass that key")
	case v.Confirm != nil && (res.Confirm == nil || !v.Confirm.Equal(res.Confirm)):
		r.add(CodeTokenBinding, "cnf", "the key that the bearer has proven to hold", "another", "the token belongs to somebody else")
	}
}
