package maa

import (
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
)

// question is what a call asks: for claims about evidence.
type question interface {
	// given is the evidence, with its kind, and what it has to carry.
	given() (tee.Evidence, attest.Binding)
	// decide has the policy decide about verified evidence, and returns the token's
	// claims and how long it is to be good for.
	decide(p *policy, v *attest.Verified) (map[string]any, time.Duration, error)
	// wrap is how a token is answered.
	wrap(token string) (any, error)
}

// readQuestion reads the body of a call.
func readQuestion(typ string, b []byte) (question, error) {
	if typ == azureGuest {
		g, err := readGuest(b)
		if err != nil {
			return nil, err
		}
		return g, nil
	}
	q, err := readRequest(typ, b)
	if err != nil {
		return nil, err
	}
	return q, nil
}

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
	if typ == "Tpm" {
		return s.attestTPM(b)
	}
	q, err := readQuestion(typ, b)
	if err != nil {
		return nil, err
	}
	if r, ok := q.(*attestRequest); ok && r.draft != nil {
		return s.attestDraft(c, r)
	}
	p := c.provider.policies[typ]
	if p == nil {
		return nil, badRequest("this provider has no policy for this attestation type", "set one")
	}
	out := s.ask(q, p, c.provider.grace())
	told := telling{c.provider, typ, p, b}
	if out.err != nil {
		_ = s.tell(told, out, "") // it is refused, whatever becomes of its record
		return nil, out.err
	}
	if err := s.stamp(out.claims, c.base, out.lifetime); err != nil {
		return nil, err
	}
	id, _ := out.claims["jti"].(string)
	if err := s.tell(told, out, id); err != nil {
		return nil, err
	}
	token, err := c.provider.signing().sign(out.claims, c.base+"/certs")
	if err != nil {
		return nil, err
	}
	return q.wrap(token)
}

// attestDraft answers for a policy that is only tried out: nobody signs the token.
func (s *Service) attestDraft(c call, q *attestRequest) (any, error) {
	p, err := draft(*q.draft)
	if err != nil {
		return nil, err
	}
	out := s.ask(q, p, c.provider.grace())
	if out.err != nil {
		return nil, out.err
	}
	if err := s.stamp(out.claims, c.base, out.lifetime); err != nil {
		return nil, err
	}
	token, err := unsigned(out.claims)
	return tokenAnswer{token}, err
}

// outcome is what came of a question: what was proven, nil if nothing was, and the
// claims, or why they are refused.
type outcome struct {
	evidence tee.Evidence
	input    tee.Input
	proven   *attest.Verified
	claims   map[string]any
	lifetime time.Duration
	err      error
}

// ask verifies the evidence of a question now, and has the policy decide.
func (s *Service) ask(q question, p *policy, grace time.Duration) outcome {
	ev, binding := q.given()
	out := outcome{evidence: ev, input: s.cfg.Input(ev)}
	out.input.At = s.cfg.Now()
	in := out.input
	in.Grace = grace
	if out.proven, out.err = s.cfg.Verifier.Verify(ev, in, binding); out.err == nil {
		out.claims, out.lifetime, out.err = q.decide(p, out.proven)
	}
	return out
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
