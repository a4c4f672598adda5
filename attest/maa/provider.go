package maa

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
)

// Shared is the name of the provider at the root. Nobody owns it, and its
// policies are the default ones.
const Shared = "shared"

// Bounds of providers.
const (
	MaxProviders = 1024 // of one service
	MaxSigners   = 16   // policy signers of one provider
	maxKeys      = 16   // signing keys of one provider, retired ones included
	maxIssuer    = 256  // bytes
)

// The errors of a [Service]. Each is wrapped with what was wrong.
var (
	ErrInvalid    = errors.New("invalid request")
	ErrNotFound   = errors.New("no such attestation provider of yours")
	ErrExists     = errors.New("there is an attestation provider of that name")
	ErrNoIdentity = errors.New("the request names nobody")
)

// attestationTypes are the kinds of evidence that a provider has a policy for.
// Guests of Azure may be on TDX as well, under the same policy.
func attestationTypes() map[string]tee.Kind {
	return map[string]tee.Kind{"SgxEnclave": tee.SGX, "OpenEnclave": tee.SGX, "SevSnpVm": tee.SNP, "TdxVm": tee.TDX, "Tpm": tee.TPM, azureGuest: tee.AzureSNP}
}

// provider is an attestation provider, ready to use. It is never changed: a
// change makes another one.
type provider struct {
	state    state
	policies map[string]*policy // by attestation type; default ones too
	signers  []*x509.Certificate
	keys     []*signer // the one that signs first
}

// policy is a policy that is in force.
type policy struct {
	jws    string
	hash   string // x-ms-policy-hash
	rules  *azurepolicy.Policy
	signer map[string]any // JWK of who signed it; nil for nobody
}

// load makes a provider of its state.
func (s state) load() (*provider, error) {
	p := &provider{state: s, policies: map[string]*policy{}}
	for _, der := range s.Signers {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: policy signer: %w", ErrInvalid, err)
		}
		p.signers = append(p.signers, cert)
	}
	for _, k := range s.Keys {
		loaded, err := k.load(s.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("signing key of %s: %w", s.Name, err)
		}
		p.keys = append(p.keys, loaded)
	}
	if len(p.keys) == 0 || p.keys[0].key == nil {
		return nil, fmt.Errorf("%w: no key to sign with", ErrInvalid)
	}
	for typ, kind := range attestationTypes() {
		set, ok := s.Policies[typ]
		if !ok {
			text, has := azurepolicy.Default(kind)
			if !has {
				continue
			}
			set = envelopeOf(text)
		}
		loaded, err := loadPolicy(set)
		if err != nil {
			return nil, fmt.Errorf("policy for %s: %w", typ, err)
		}
		p.policies[typ] = loaded
	}
	return p, nil
}

// loadPolicy reads a policy. Who may set it was decided when it was.
func loadPolicy(jws string) (*policy, error) {
	m, err := azurepolicy.OpenAnyMessage(jws)
	if err != nil {
		return nil, err
	}
	text, _, err := azurepolicy.ParseOpenEnvelope(jws)
	if err != nil {
		return nil, err
	}
	rules, err := azurepolicy.Parse(text)
	if err != nil {
		return nil, err
	}
	p := &policy{jws: jws, hash: azurepolicy.Hash(text), rules: rules}
	if m.Signer != nil {
		p.signer, err = keyJWK(m.Signer)
	}
	return p, err
}

// envelopeOf puts a policy's text into an unsigned JWS.
func envelopeOf(text string) string {
	return encode64([]byte(`{"alg":"none"}`)) + "." + encode64([]byte(`{"AttestationPolicy":"`+encode64([]byte(text))+`"}`)) + "."
}

// signing is the key that signs now.
func (p *provider) signing() *signer { return p.keys[0] }

// published are the keys that tokens which are still good may be signed with.
func (p *provider) published(now time.Time) []map[string]any {
	out := make([]map[string]any, 0, len(p.keys))
	for i, k := range p.keys {
		if retired := p.state.Keys[i].Retired; retired == 0 || now.Before(time.Unix(retired, 0).Add(attest.MaxTokenLifetime)) {
			out = append(out, k.jwk)
		}
	}
	return out
}

func (p *provider) grace() time.Duration {
	return time.Duration(p.state.GraceDays) * 24 * time.Hour
}

// Info describes a provider to its owner.
type Info struct {
	Name string `json:"name"`
	// Path is where its face is on the node.
	Path      string `json:"path"`
	Owner     string `json:"owner"` // hex, empty for nobody
	Algorithm string `json:"algorithm"`
	// Issuer is the iss of its tokens; empty: the URL under which a client asked.
	Issuer string `json:"issuer"`
	// Isolated providers take only policies that a policy signer signed.
	Isolated  bool      `json:"isolated"`
	GraceDays int       `json:"collateral_grace_days"`
	Created   time.Time `json:"created"`
	Changed   time.Time `json:"changed"`
	// Policies are the x-ms-policy-hash of the policies in force by attestation
	// type; types without one attest nothing.
	Policies map[string]string `json:"policies"`
	Keys     []string          `json:"keys"`    // kid, the one that signs first
	Signers  int               `json:"signers"` // policy signers
}

func (p *provider) info() Info {
	s := p.state
	i := Info{
		Name: s.Name, Path: pathOf(s.Name), Owner: hex.EncodeToString(s.Owner), Algorithm: s.Algorithm, Issuer: s.Issuer, Isolated: s.Isolated, GraceDays: s.GraceDays,
		Created: time.Unix(s.Created, 0).UTC(), Changed: time.Unix(s.Changed, 0).UTC(), Policies: map[string]string{}, Signers: len(s.Signers),
	}
	for typ, pol := range p.policies {
		i.Policies[typ] = pol.hash
	}
	for _, k := range p.keys {
		i.Keys = append(i.Keys, k.id)
	}
	return i
}

// pathOf is where a provider's face is.
func pathOf(name string) string {
	if name == Shared {
		return "/"
	}
	return "/azure/" + name
}
