package attest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Lifetimes of tokens.
const (
	DefaultTokenLifetime = 10 * time.Minute
	MaxTokenLifetime     = 24 * time.Hour
)

// IssuerConfig is what an [Issuer] needs.
type IssuerConfig struct {
	// Name is the iss of every token; relying parties compare it exactly.
	Name string
	// Key signs: P-256 gives ES256, P-384 gives ES384.
	Key *ecdsa.PrivateKey
	// Previous are the public halves of keys that signed earlier. Publish each
	// until the last token that it signed has expired.
	Previous []*ecdsa.PublicKey
	// Build names the software that verified the evidence; empty is "cloister".
	Build string
	// Lifetime is how long tokens are good for; 0 means [DefaultTokenLifetime].
	Lifetime time.Duration
	// Now is the issuer's clock.
	Now func() time.Time
}

// Issuer states verdicts as signed attestation results: EAR in a JWT or in a CWT.
// It is immutable and safe for concurrent use; the zero value issues nothing.
type Issuer struct {
	cfg  IssuerConfig
	own  tokenKey
	keys KeySet
}

// NewIssuer checks the configuration.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	switch {
	case cfg.Name == "" || len(cfg.Name) > 512:
		return nil, errors.New("prepare token issuer: name: want 1 to 512 bytes")
	case cfg.Key == nil:
		return nil, errors.New("prepare token issuer: no key to sign with")
	case cfg.Now == nil:
		return nil, errors.New("prepare token issuer: no clock")
	case cfg.Lifetime < 0 || cfg.Lifetime > MaxTokenLifetime || cfg.Lifetime%time.Second != 0:
		return nil, fmt.Errorf("prepare token issuer: lifetime %v: want whole seconds, at most %v", cfg.Lifetime, MaxTokenLifetime)
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultTokenLifetime
	}
	if cfg.Build == "" {
		cfg.Build = "cloister"
	}
	own, err := newTokenKey(&cfg.Key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("prepare token issuer: %w", err)
	}
	keys, err := NewKeySet(append([]*ecdsa.PublicKey{&cfg.Key.PublicKey}, cfg.Previous...)...)
	if err != nil {
		return nil, fmt.Errorf("prepare token issuer: %w", err)
	}
	return &Issuer{cfg: cfg, own: own, keys: keys}, nil
}

// Name returns the iss of every token.
func (i *Issuer) Name() string { return i.cfg.Name }

// JWKS returns the keys that tokens are verified with: the one that signs, then
// the previous ones.
func (i *Issuer) JWKS() KeySet { return i.keys }

// IssueOptions tie a token to its purpose. The zero value ties it to nothing:
// whoever has the token can show it to anybody.
type IssueOptions struct {
	// Audience is the one relying party that the token is for.
	Audience string
	// Nonce is the relying party's own, 8 to 64 bytes.
	Nonce []byte
	// ID is the token's jti or cti, 16 bytes, for who writes down what was issued; nil
	// has one made at random.
	ID []byte
	// Confirm is a P-256 or P-384 key that the evidence vouches for: the token is
	// only good together with a proof that its bearer holds the private half.
	Confirm *ecdsa.PublicKey
}

// Issue signs a token about v. The caller has appraised v and got a yes from the
// policy that policyDigest names; the status in the token is that yes, lowered
// to what the claims are worth in AR4SI's terms: "contraindicated" for simulated
// and debug, "warning" for outdated firmware and for memory that the host can
// read. The zero digest means that no policy was asked; the status then is
// "none", which every relying party refuses.
//
// Evidence that was verified [WithoutFreshness] gets no token: it may be
// anybody's.
func (i *Issuer) Issue(v *Verified, policyDigest [32]byte, o IssueOptions) (string, error) {
	b, err := i.statement(v, policyDigest, o)
	if err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	token, err := signToken(i.cfg.Key, i.own, b)
	if err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	if len(token) > MaxToken {
		return "", fmt.Errorf("issue token: %d bytes, at most %d", len(token), MaxToken)
	}
	return token, nil
}

// statement returns the body of a token in JSON if v may have one at all.
func (i *Issuer) statement(v *Verified, policyDigest [32]byte, o IssueOptions) ([]byte, error) {
	if i == nil || i.cfg.Key == nil {
		return nil, errors.New("the issuer has no key")
	}
	if v == nil || v.Claims.TEE == "" {
		return nil, errors.New("nothing was verified")
	}
	for _, f := range v.Findings {
		if f.Code == FindingBindingUnchecked {
			return nil, errors.New("the evidence was not compared with a binding: it may be a recording")
		}
	}
	c, err := i.claims(v, policyDigest, o)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

func (i *Issuer) claims(v *Verified, policyDigest [32]byte, o IssueOptions) (earClaims, error) {
	id := o.ID
	if id == nil {
		id = NewTokenID()
	}
	if len(id) != tokenIDSize {
		return earClaims{}, fmt.Errorf("identifier of %d bytes: want %d", len(id), tokenIDSize)
	}
	now := i.cfg.Now()
	summary := treeSummary{TEE: v.Claims.TEE, Simulated: v.Claims.Simulated, Debug: v.Claims.Debug, TCB: v.Claims.TCB}
	c := earClaims{
		Profile: EARProfile, Issuer: i.cfg.Name, ID: encode64(id),
		IssuedAt: seconds(now), NotBefore: seconds(now), Expires: seconds(now.Add(i.cfg.Lifetime)),
		VerifierID: &verifierID{Developer: verifierDeveloper, Build: i.cfg.Build},
		Simulated:  &summary.Simulated, Debug: &summary.Debug,
		Devices: map[string]earAppraisal{deviceName: appraisalOf(summary, policyDigest)},
		Cloister: &cloisterClaims{
			Claims: v.Claims.Tree(), Findings: append([]tee.Finding{}, v.Findings...), VerifiedAt: v.At.Unix(),
			EvidenceDigest: hex.EncodeToString(v.EvidenceDigest[:]), EndorsementsDigest: hex.EncodeToString(v.EndorsementsDigest[:]),
		},
	}
	return c, o.apply(&c)
}

// tokenIDSize is how many bytes the identifier of a token has.
const tokenIDSize = 16

// NewTokenID makes the identifier of a token, see [IssueOptions]. In a JWT it is
// written as base64url without padding.
func NewTokenID() []byte {
	id := make([]byte, tokenIDSize)
	_, _ = rand.Read(id) // does not fail
	return id
}

func (o IssueOptions) apply(c *earClaims) error {
	if o.Audience != "" {
		c.Audience = &o.Audience
	}
	if o.Nonce != nil {
		if len(o.Nonce) < minNonce || len(o.Nonce) > maxNonce {
			return fmt.Errorf("nonce of %d bytes: want %d to %d", len(o.Nonce), minNonce, maxNonce)
		}
		text := encode64(o.Nonce)
		c.Nonce = &text
	}
	if o.Confirm != nil {
		k, err := newTokenKey(o.Confirm)
		if err != nil {
			return fmt.Errorf("key to confirm: %w", err)
		}
		// Which use the key has is its holder's business.
		c.Confirm = &confirmation{JWK: &jwk{Kty: k.jwk.Kty, Crv: k.jwk.Crv, X: k.jwk.X, Y: k.jwk.Y}}
	}
	return nil
}
