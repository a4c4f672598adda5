package collateral

import "github.com/cloister-cc/cloister/tee"

// For returns what the store holds for the platform of evidence, by what the
// evidence says of it, unverified: the wrong collateral makes a verifier refuse
// and nothing worse. It is empty for evidence that needs no collateral.
func (s *Store) For(ev tee.Evidence) (tee.Endorsements, error) {
	p, ok := PlatformOf(ev)
	if !ok {
		return tee.Endorsements{}, nil
	}
	return endorse(p, s.Items())
}

func endorse(p Platform, items []Item) (tee.Endorsements, error) {
	var e tee.Endorsements
	for _, i := range items {
		if !p.wants(i) {
			continue
		}
		if err := i.add(&e); err != nil {
			return tee.Endorsements{}, err
		}
	}
	return e, nil
}
