package maa

import (
	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
)

// attest verifies evidence, asks the provider's policy about it, and answers with
// a token.
func (s *Service) attest(c call, typ string) (any, error) {
	if err := knownType(typ); err != nil {
		return nil, err
	}
	b, err := body(c)
	if err != nil {
		return nil, err
	}
	switch typ {
	case "Tpm":
		return s.attestTPM(b)
	case azureGuest:
		return s.attestGuest(c, b)
	}
	q, err := readRequest(typ, b)
	if err != nil {
		return nil, err
	}
	p := c.provider.policies[typ]
	if q.draft != nil {
		if p, err = draft(*q.draft); err != nil {
			return nil, err
		}
	}
	v, err := s.cfg.Verify(c.Context(), q.Evidence, c.provider.grace(), q.binding())
	if err != nil {
		return nil, err
	}
	if err := complete(v); err != nil {
		return nil, err
	}
	if err := q.checkLaunch(v.Claims); err != nil {
		return nil, err
	}
	if err := q.checkUVM(v.Claims); err != nil {
		return nil, err
	}
	claims, lifetime, err := decide(p, v, q, q.evidence)
	if err != nil {
		return nil, err
	}
	if err := s.stamp(claims, c.base, lifetime); err != nil {
		return nil, err
	}
	if q.draft != nil {
		token, err := unsigned(claims)
		return tokenAnswer{token}, err
	}
	if err := s.tell(c, v, claims); err != nil {
		return nil, err
	}
	token, err := c.provider.signing().sign(claims, c.base+"/certs")
	return tokenAnswer{token}, err
}

// tell reports a token that is about to be issued to [Config.Judged].
func (s *Service) tell(c call, v *attest.Verified, claims map[string]any) error {
	if s.cfg.Judged == nil {
		return nil
	}
	id, _ := claims["jti"].(string)
	return s.cfg.Judged(v, c.provider.state.GraceDays, id)
}

// draft reads a policy that is only tried out: its text, or a JWS.
func draft(text string) (*policy, error) {
	p, err := loadPolicy(text)
	if err == nil {
		return p, nil
	}
	rules, syntax := azurepolicy.Parse(text)
	if syntax != nil {
		return nil, syntax
	}
	return &policy{hash: azurepolicy.Hash(text), rules: rules}, nil
}

// complete refuses evidence whose collateral was not there: what it would have
// said nobody knows.
func complete(v *attest.Verified) error {
	var failures []tee.Failure
	for _, f := range v.Findings {
		if f.Code == tee.CodeCollateralMissing {
			failures = append(failures, tee.Failure{Code: f.Code, Claim: "collateral", Want: "the vendor's current documents and revocation lists", Got: f.Detail,
				Hint: "ask again in a moment, or give them to the node: cloister attest collateral"})
		}
	}
	if failures == nil {
		return nil
	}
	return &tee.VerifyError{Kind: v.Claims.TEE, Failures: failures}
}
