package maa

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
)

// policyDocument is how a policy is kept beside the records of its verdicts: with
// what else they depend on and no request says.
type policyDocument struct {
	Version   int    `json:"version"` // 1
	Type      string `json:"attestation_type"`
	GraceDays int    `json:"collateral_grace_days"`
	Policy    string `json:"policy"` // the JWS that set it
}

// telling is what a verdict is told with.
type telling struct {
	provider *provider
	typ      string
	policy   *policy
	body     []byte
}

// tell reports a verdict to [Config.Judged], with the jti of the token that is about
// to be issued for it, if one is.
func (s *Service) tell(t telling, out outcome, tokenID string) error {
	if s.cfg.Judged == nil {
		return nil
	}
	document, err := json.Marshal(policyDocument{Version: 1, Type: t.typ, GraceDays: t.provider.state.GraceDays, Policy: t.policy.jws})
	if err != nil {
		return err
	}
	c := record.Case{Evidence: out.evidence, Input: out.input, Provider: &record.Provider{Policy: document, Request: t.body}}
	r := record.Of(c, out.proven, out.err)
	r.TokenID = tokenID
	return s.cfg.Judged(c, r)
}

// ErrCase means that a policy or a request was not kept by a [Service].
var ErrCase = errors.New("not a case of an attestation provider")

// ReadCase is a [record.ProviderReader] of what [Config.Judged] was told: whoever has
// a policy and a request can have it decided again. The error is an [ErrCase].
func ReadCase(policy, request []byte) (tee.Evidence, *record.Provider, error) {
	refuse := func(err error) (tee.Evidence, *record.Provider, error) {
		return tee.Evidence{}, nil, fmt.Errorf("%w: %w", ErrCase, err)
	}
	var d policyDocument
	if err := attest.DecodeExact(policy, &d, "version", "attestation_type", "collateral_grace_days", "policy"); err != nil {
		return refuse(err)
	}
	if d.Version != 1 || d.GraceDays < 0 || d.GraceDays > attest.MaxGraceDays {
		return refuse(errors.New("policy of another version, or with a grace that no provider has"))
	}
	if err := knownType(d.Type); err != nil || d.Type == "Tpm" {
		return refuse(errors.New("policy of an attestation type of which there are no verdicts"))
	}
	p, err := loadPolicy(d.Policy)
	if err != nil {
		return refuse(err)
	}
	q, err := readQuestion(d.Type, request)
	if err != nil {
		return refuse(err)
	}
	ev, binding := q.given()
	return ev, &record.Provider{
		Policy: policy, Request: request, Grace: time.Duration(d.GraceDays) * 24 * time.Hour, Binding: binding,
		Appraise: func(v *attest.Verified) error {
			_, _, err := q.decide(p, v)
			return err
		},
	}, nil
}
