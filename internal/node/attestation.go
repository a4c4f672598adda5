package node

import (
	"context"
	"crypto/ecdsa"
	"net/http"
	"path/filepath"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/attest/rcar"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/statelog"
	"github.com/cloister-cc/cloister/tee"
)

// providerCounter is the monotonic counter of the log of attestation providers.
const providerCounter = "node-providers"

// openProviders opens the attestation providers and their log.
func (s *service) openProviders(ctx context.Context, end context.CancelCauseFunc) error {
	c := maa.Config{Verifier: s.verifier, Input: s.input, Caller: s.access.caller}
	if s.verdicts.keep == datadir.KeepAll {
		c.Judged = s.verdicts.judged
	}
	s.providers = maa.New(c)
	path := filepath.Join(s.enclave.StateDir(), "providers.log")
	log, err := statelog.Open(ctx, s.enclave, path, providerCounter, func(_ statelog.Position, b []byte) error { return s.providers.Replay(b) })
	if err != nil {
		return sealedByOther(err)
	}
	s.closers = append(s.closers, log.Close)
	return s.providers.Begin(providerLog{logAdapter{context.WithoutCancel(ctx), log, end}})
}

// providerLog makes a state log the providers' log.
type providerLog struct{ logAdapter }

func (l providerLog) Append(entry []byte) error {
	_, err := l.logAdapter.Append([][]byte{entry})
	return err
}

// verify proves evidence now, with the collateral that the node has, for a policy.
// The case is what was judged; a refusal is in the records when it returns.
func (s *service) verify(ev tee.Evidence, policy *attest.Policy, reportData []byte) (record.Case, *attest.Verified, error) {
	ev.Kind = s.verifier.KindOf(ev)
	c := record.Case{Evidence: ev, Input: s.input(ev), Policy: policy, ReportData: reportData}
	c.Input.At = time.Now()
	in := c.Input
	in.Grace = policy.Grace()
	v, err := s.verifier.Verify(ev, in, c.Binding())
	if err != nil {
		s.verdicts.refuse(c, nil, err)
	}
	return c, v, err
}

// appraise asks the policy of a case about what was proven. A refusal is in the
// records when it returns.
func (s *service) appraise(a *attest.Appraiser, c record.Case, v *attest.Verified) error {
	err := a.Appraise(v)
	if err != nil {
		s.verdicts.refuse(c, v, err)
	}
	return err
}

// guests serves guests of Confidential Containers, which ask for nothing but a
// token: under the policy hardware-default, for what else to want of them only
// their relying party knows.
func (s *service) guests() (http.Handler, error) {
	policy := attest.HardwareDefault()
	appraiser, err := attest.Compile(policy)
	if err != nil {
		return nil, err
	}
	return rcar.New(rcar.Config{
		Now: time.Now,
		Verify: func(_ context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
			_, v, err := s.verify(ev, &policy, rcar.ReportData(ev.Kind, reportData))
			return v, err
		},
		Issue: func(_ context.Context, v *attest.Verified, confirm *ecdsa.PublicKey, nonce []byte) (string, error) {
			c := record.Case{Evidence: v.Evidence, Input: v.Input, Policy: &policy, ReportData: v.Claims.ReportData}
			if err := s.appraise(appraiser, c, v); err != nil {
				return "", err
			}
			id := attest.NewTokenID()
			if err := s.verdicts.issued(c, v, tokenID(id)); err != nil {
				return "", err
			}
			return s.issuer.Issue(v, appraiser.Digest(), attest.IssueOptions{ID: id, Confirm: confirm, Nonce: nonce})
		},
	})
}

// providerRoutes are the face of Azure Attestation, and the owners' own calls.
func (s *service) providerRoutes(mux *http.ServeMux, handle func(string, func(*http.Request) (any, error))) {
	for _, path := range []string{"/attest/", "/policies/", "/tcbbaselines/", "/certificates", "/certificates:add", "/certificates:remove", "/certs", "/.well-known/openid-configuration", maa.Prefix} {
		mux.Handle(path, s.providers)
	}
	mux.Handle(rcar.PathAuth, s.guest)
	mux.Handle(rcar.PathAttest, s.guest)
	handle("GET /v1/providers", func(r *http.Request) (any, error) { return s.providers.List(owner(r)) })
	handle("POST /v1/providers", func(r *http.Request) (any, error) {
		var c maa.Settings
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return s.providers.Create(owner(r), c)
	})
	handle("GET /v1/providers/{name}", func(r *http.Request) (any, error) { return s.providers.Get(owner(r), r.PathValue("name")) })
	handle("DELETE /v1/providers/{name}", func(r *http.Request) (any, error) {
		return struct{}{}, s.providers.Delete(owner(r), r.PathValue("name"))
	})
	handle("POST /v1/providers/{name}/rotate", func(r *http.Request) (any, error) {
		return s.providers.Rotate(owner(r), r.PathValue("name"))
	})
	handle("POST /v1/access", func(r *http.Request) (any, error) {
		o := owner(r)
		if o == nil {
			return nil, keys.ErrNoIdentity
		}
		token, ends := s.access.give(o)
		return client.AccessToken{Token: token, Expires: ends}, nil
	})
	handle("GET /v1/authority", func(*http.Request) (any, error) {
		return client.Authority{Certificate: s.certificates.pem(), AttestationKeys: s.tpms.pem()}, nil
	})
}
