package cca

import (
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// checks collects which rules of the specification a token breaks.
type checks []tee.Failure

func (c *checks) bad(claim, want, got string) {
	*c = append(*c, tee.Failure{Code: tee.CodeParse, Claim: claim, Want: want, Got: got})
}

func (c *checks) size(claim string, b []byte, sizes ...int) {
	if !slices.Contains(sizes, len(b)) {
		c.bad(claim, fmt.Sprintf("one of %v bytes", sizes), fmt.Sprint(len(b)))
	}
}

func (c *checks) text(claim, s string) {
	if !isText(s) {
		c.bad(claim, fmt.Sprintf("at most %d printable characters", maxText), fmt.Sprintf("%.64q", s))
	}
}

func (c *checks) profile(claim, got string, known []string) {
	if !slices.Contains(known, got) {
		*c = append(*c, tee.Failure{Code: tee.CodeUnsupported, Claim: claim, Want: fmt.Sprintf("one of %q", known), Got: fmt.Sprintf("%.64q", got)})
	}
}

// check lists what is wrong with the platform's claims.
func (p Platform) check() checks {
	var c checks
	c.profile("platform profile", p.Profile, profilesPlatform)
	c.size("platform challenge", p.Challenge, digestSizes...)
	c.size("implementation id", p.Implementation, implementationSize)
	if c.size("instance id", p.Instance, instanceSize); len(p.Instance) > 0 && p.Instance[0] != 1 { // a random UEID
		c.bad("instance id", "a UEID of type 1", fmt.Sprint(p.Instance[0]))
	}
	if len(p.Config) > maxConfig {
		c.bad("platform config", fmt.Sprintf("at most %d bytes", maxConfig), fmt.Sprint(len(p.Config)))
	}
	if p.LifecycleName() == "invalid" {
		c.bad("lifecycle", "a state of the platform", fmt.Sprintf("%#x", p.Lifecycle))
	}
	c.text("verification service", p.Service)
	c.text("platform hash algorithm", p.Hash)
	if len(p.Components) == 0 {
		c.bad("software components", "one or more", "none")
	}
	for _, s := range p.Components {
		c.size("software component", s.Measurement, digestSizes...)
		c.size("software component's signer", s.Signer, digestSizes...)
		c.text("software component", s.Type)
		c.text("software component", s.Version)
		c.text("software component", s.Hash)
	}
	return c
}

// checkRealm lists what is wrong with the realm's claims, and reads its key.
func (t *Token) checkRealm() checks {
	var c checks
	r := t.Realm
	c.profile("realm profile", r.Profile, profilesRealm)
	c.size("realm challenge", r.Challenge, challengeSize)
	c.size("personalization value", r.Personalization, personalizeSize)
	c.size("initial measurement", r.Initial, digestSizes...)
	if len(r.Extensible) != extensible {
		c.bad("extensible measurements", fmt.Sprint(extensible), fmt.Sprint(len(r.Extensible)))
	}
	for _, m := range r.Extensible {
		c.size("extensible measurement", m, digestSizes...)
	}
	c.text("realm hash algorithm", r.Hash)
	var err error
	if len(r.PublicKey) > maxKey {
		c.bad("realm public key", fmt.Sprintf("at most %d bytes", maxKey), fmt.Sprint(len(r.PublicKey)))
	} else if t.realmKey, err = parseKey(r.PublicKey); err != nil {
		c.bad("realm public key", "COSE_Key on a NIST curve", fmt.Sprintf("%.100q", err.Error()))
	}
	if hashOf(r.PublicKeyHash, nil) == nil {
		c = append(c, tee.Failure{Code: tee.CodeUnsupported, Claim: "realm public key hash", Want: "sha-256, sha-384 or sha-512", Got: fmt.Sprintf("%.32q", r.PublicKeyHash)})
	}
	return c
}

// boundKey is what the platform's challenge has to be: the digest of the realm's
// key.
func (t *Token) boundKey() []byte { return hashOf(t.Realm.PublicKeyHash, t.Realm.PublicKey) }
