package keys

import (
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

// verdictsOf writes down the verdict of each policy that accepted the evidence, and
// returns the records' names, one for each key; empty if none are kept.
func (s *Service) verdictsOf(c record.Case, v *attest.Verified, granted []*key, token Token) (list []record.Prepared, names []string, err error) {
	names = make([]string, len(granted))
	if s.cfg.Keep == nil {
		return nil, names, nil
	}
	write := func(policy *attest.Policy) (string, error) {
		c.Policy = policy
		r := record.Of(c, v, nil)
		r.TokenID = token.ID
		p, err := record.Prepare(c, r)
		list = append(list, p)
		return p.Name(), err
	}
	if len(granted) == 0 { // for the token all the same
		_, err := write(nil)
		return list, names, err
	}
	written := map[[32]byte]string{}
	for i, k := range granted {
		policy := k.info.Policy.Appraisal
		id := policy.Digest()
		if written[id] == "" {
			if written[id], err = write(&policy); err != nil {
				return nil, nil, err
			}
		}
		names[i] = written[id]
	}
	return list, names, nil
}
