package keys

import (
	"fmt"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
)

// refused tells of a verdict that led to no release: v is what was proven, nil if
// nothing was, and err why it was refused.
func (s *Service) refused(c record.Case, v *attest.Verified, err error) {
	if s.cfg.Refused != nil {
		s.cfg.Refused(c, record.Of(c, v, err))
	}
}

// keepVerdicts keeps a record for each policy that accepted the evidence, and
// returns the records' names, one for each key; empty if none are kept.
func (s *Service) keepVerdicts(c record.Case, v *attest.Verified, granted []*key, token Token) ([]string, error) {
	names := make([]string, len(granted))
	if s.cfg.Keep == nil {
		return names, nil
	}
	keep := func(policy *attest.Policy) (string, error) {
		c.Policy = policy
		r := record.Of(c, v, nil)
		r.TokenID = token.ID
		name, err := s.cfg.Keep(c, r)
		if err != nil {
			return "", fmt.Errorf("keep verdict: %w", err)
		}
		return name, nil
	}
	if len(granted) == 0 { // for the token all the same
		_, err := keep(nil)
		return names, err
	}
	kept := map[[32]byte]string{}
	for i, k := range granted {
		policy := k.info.Policy.Appraisal
		id := policy.Digest()
		if kept[id] == "" {
			var err error
			if kept[id], err = keep(&policy); err != nil {
				return nil, err
			}
		}
		names[i] = kept[id]
	}
	return names, nil
}
