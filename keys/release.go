package keys

import (
	"context"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Release wraps keys to the code that the evidence is of, all of them or none.
// A refusal is [ErrNonce], a *tee.VerifyError, an *attest.AppraisalError with
// the failures of the first policy that refuses, or [ErrNotFound].
func (s *Service) Release(_ context.Context, r ReleaseRequest) (ReleaseResponse, error) {
	if len(r.Keys) > MaxReleaseKeys {
		return ReleaseResponse{}, fmt.Errorf("%w: %d keys, at most %d", ErrInvalid, len(r.Keys), MaxReleaseKeys)
	}
	if !s.nonces.take(r.Nonce) {
		return ReleaseResponse{}, ErrNonce
	}
	now := s.cfg.Now().UTC()
	c, v, err := s.verify(r, now)
	if err != nil {
		s.refused(c, nil, err)
		return ReleaseResponse{}, err
	}
	granted, refusing, err := s.appraise(r.Keys, v)
	if err != nil {
		if c.Policy = refusing; refusing != nil {
			s.refused(c, v, err)
		}
		return ReleaseResponse{}, err
	}
	boot, err := s.admit(v.Claims, r.Boot)
	if err != nil {
		s.refused(c, v, err)
		return ReleaseResponse{}, err
	}
	lease := shortestLease(granted)
	out := ReleaseResponse{Expires: now.Add(lease), LeaseSeconds: int(lease.Seconds())}
	if !r.Renew && len(granted) > 0 {
		if out.Keys, err = wrapAll(r, granted); err != nil {
			return ReleaseResponse{}, err
		}
	}
	token, err := s.cfg.Issue(v, policyOf(granted))
	if err != nil {
		return ReleaseResponse{}, fmt.Errorf("issue attestation result: %w", err)
	}
	out.Token = token.Text
	// Nothing leaves before its receipt is durable, and what the receipt names.
	if out.Receipts, err = s.leaveReceipts(r, c, v, granted, boot, token, now, out.Expires); err != nil {
		return ReleaseResponse{}, err
	}
	return out, nil
}

// admit refuses a release for other reasons than a policy's. It returns what is to be
// kept with it.
func (s *Service) admit(c tee.Claims, token []byte) (entries [][]byte, err error) {
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(c); err != nil {
			return nil, err
		}
	}
	boot, err := s.admitBoot(c, token)
	if err != nil || boot == nil {
		return nil, err
	}
	b, err := entry{Boot: boot}.encode()
	return [][]byte{b}, err
}

// verify proves that the evidence is genuine and was made for this request: by
// an instance that holds the private key of PublicKey and has seen the nonce. The
// case is what was judged, under the policy that is strictest about collateral.
func (s *Service) verify(r ReleaseRequest, now time.Time) (record.Case, *attest.Verified, error) {
	c := record.Case{Evidence: r.Evidence, Input: s.cfg.Input(r.Evidence), Policy: s.strictest(r.Keys)}
	c.Evidence.Kind = s.cfg.Verifier.KindOf(r.Evidence)
	c.Input.At = now
	in := c.Input
	if c.Policy != nil {
		in.Grace = c.Policy.Grace()
	}
	v, err := s.cfg.Verifier.Verify(c.Evidence, in, attest.BindBy(func(claims tee.Claims) [64]byte {
		want := ReleaseBinding(r.Nonce, r.PublicKey, claims.LaunchDigest, claims.InstanceID)
		c.ReportData = want[:]
		return want
	}))
	return c, v, err
}

// strictest is the policy, of those of the keys, by which collateral may be late the
// least; nil if there is none of these keys: then it may not be late.
func (s *Service) strictest(names []string) *attest.Policy {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out *attest.Policy
	for _, name := range names {
		if k, ok := s.keys[name]; ok && (out == nil || k.info.Policy.Appraisal.Grace() < out.Grace()) {
			policy := k.info.Policy.Appraisal
			out = &policy
		}
	}
	return out
}

// appraise returns the keys if every one's policy accepts the evidence, or else the
// one that refuses it, nil if there is no such key.
func (s *Service) appraise(names []string, v *attest.Verified) (granted []*key, refusing *attest.Policy, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	granted = make([]*key, len(names))
	for i, name := range names {
		k, ok := s.keys[name]
		if !ok || !launch.ValidKeyName(name) {
			return nil, nil, ErrNotFound
		}
		if err := k.appraiser.Appraise(v); err != nil {
			policy := k.info.Policy.Appraisal
			return nil, &policy, err
		}
		granted[i] = k
	}
	return granted, nil, nil
}

// shortestLease is how long all the keys of a release may be held.
func shortestLease(granted []*key) time.Duration {
	if len(granted) == 0 {
		return DefaultLease
	}
	shortest := MaxLease
	for _, k := range granted {
		shortest = min(shortest, k.info.Policy.lease())
	}
	return shortest
}

func wrapAll(r ReleaseRequest, granted []*key) ([]WrappedKey, error) {
	to, err := parseRecipient(r.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: public_key does not parse", ErrInvalid)
	}
	out := make([]WrappedKey, len(granted))
	for i, k := range granted {
		out[i] = WrappedKey{Name: k.info.Name, Version: k.info.Version}
		if out[i].Wrapped, err = wrap(to, r.Nonce, k.info.Name, k.material); err != nil {
			return nil, fmt.Errorf("wrap key: %w", err)
		}
	}
	return out, nil
}

// policyOf names the policies of a release together; zero when nothing was
// asked for, for then no policy was asked either.
func policyOf(granted []*key) [32]byte {
	if len(granted) == 0 {
		return [32]byte{}
	}
	fields := make([][]byte, len(granted))
	for i, k := range granted {
		fields[i] = k.digest[:]
	}
	b := tee.Bind("cloister release policies v1", fields...)
	return [32]byte(b[:32])
}

func (s *Service) leaveReceipts(r ReleaseRequest, c record.Case, v *attest.Verified, granted []*key, boot [][]byte, token Token, now, expires time.Time) ([]uint64, error) {
	action := "release"
	if r.Renew {
		action = "renew"
	}
	verdicts, names, err := s.verdictsOf(c, v, granted, token)
	if err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(granted))
	for i, k := range granted {
		receipts[i] = Receipt{
			Action: action, Time: timestamp(now), Key: k.info.Name, Version: k.info.Version, Owner: k.owner, PolicyDigest: k.digest[:],
			TEE: string(v.Claims.TEE), Simulated: v.Claims.Simulated, Measurement: v.Claims.Measurement,
			LaunchDigest: v.Claims.LaunchDigest, InstanceID: v.Claims.InstanceID, EvidenceDigest: v.EvidenceDigest[:], Expires: timestamp(expires),
			Verdict: names[i],
		}
	}
	return s.commitReceipts(boot, receipts, verdicts)
}
