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
	v, err := s.verify(r, now)
	if err != nil {
		return ReleaseResponse{}, err
	}
	granted, err := s.appraise(r.Keys, v)
	if err != nil {
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
	if out.Receipts, err = s.leaveReceipts(r, v, granted, token, now, out.Expires); err != nil {
		return ReleaseResponse{}, err
	}
	return out, nil
}

// verify proves that the evidence is genuine and was made for this request: by
// an instance that holds the private key of PublicKey and has seen the nonce.
func (s *Service) verify(r ReleaseRequest, now time.Time) (*attest.Verified, error) {
	in := s.cfg.Input(r.Evidence)
	in.At, in.Grace = now, s.grace(r.Keys)
	return s.cfg.Verifier.Verify(r.Evidence, in, attest.BindBy(func(c tee.Claims) [64]byte {
		return ReleaseBinding(r.Nonce, r.PublicKey, c.LaunchDigest, c.InstanceID)
	}))
}

// grace is how late collateral may be for all of the keys: what their strictest
// policy allows.
func (s *Service) grace(names []string) time.Duration {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(names) == 0 {
		return 0
	}
	shortest := time.Duration(attest.MaxGraceDays) * 24 * time.Hour
	for _, name := range names {
		if k, ok := s.keys[name]; ok {
			shortest = min(shortest, k.info.Policy.Appraisal.Grace())
		}
	}
	return shortest
}

// appraise returns the keys if every one's policy accepts the evidence.
func (s *Service) appraise(names []string, v *attest.Verified) ([]*key, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	granted := make([]*key, len(names))
	for i, name := range names {
		k, ok := s.keys[name]
		if !ok || !launch.ValidKeyName(name) {
			return nil, ErrNotFound
		}
		if err := k.appraiser.Appraise(v); err != nil {
			return nil, err
		}
		granted[i] = k
	}
	return granted, nil
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

// keepVerdicts keeps a record for each policy that accepted the evidence, and
// returns the records' names, one for each key; empty if none are kept.
func (s *Service) keepVerdicts(v *attest.Verified, granted []*key, token Token) ([]string, error) {
	names := make([]string, len(granted))
	if s.cfg.Keep == nil {
		return names, nil
	}
	kept := map[[32]byte]string{}
	for i, k := range granted {
		policy := k.info.Policy.Appraisal
		id := policy.Digest()
		if kept[id] == "" {
			name, err := s.cfg.Keep(record.Accepted(v, &policy, token.ID))
			if err != nil {
				return nil, fmt.Errorf("keep verdict: %w", err)
			}
			kept[id] = name
		}
		names[i] = kept[id]
	}
	return names, nil
}

func (s *Service) leaveReceipts(r ReleaseRequest, v *attest.Verified, granted []*key, token Token, now, expires time.Time) ([]uint64, error) {
	action := "release"
	if r.Renew {
		action = "renew"
	}
	verdicts, err := s.keepVerdicts(v, granted, token)
	if err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(granted))
	for i, k := range granted {
		receipts[i] = Receipt{
			Action: action, Time: timestamp(now), Key: k.info.Name, Version: k.info.Version, Owner: k.owner, PolicyDigest: k.digest[:],
			TEE: string(v.Claims.TEE), Simulated: v.Claims.Simulated, Measurement: v.Claims.Measurement,
			LaunchDigest: v.Claims.LaunchDigest, InstanceID: v.Claims.InstanceID, EvidenceDigest: v.EvidenceDigest[:], Expires: timestamp(expires),
			Verdict: verdicts[i],
		}
	}
	return s.commitReceipts(nil, receipts)
}
