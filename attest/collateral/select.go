package collateral

import (
	"encoding/hex"
	"strings"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/snp"
)

// For returns what the store holds for the platform of evidence, by what the
// evidence says of it, unverified: the wrong collateral makes a verifier refuse
// and nothing worse. It is empty for evidence that needs no collateral.
func (s *Store) For(ev tee.Evidence) (tee.Endorsements, error) {
	wanted := func(Item) bool { return false }
	if q, err := dcap.ParseQuote(ev.Data); err == nil {
		wanted = wantedBy(q)
	} else if r, err := snp.ParseReport(ev.Data); err == nil {
		wanted = wantedByReport(r)
	}
	var e tee.Endorsements
	for _, i := range s.Items() {
		if !wanted(i) {
			continue
		}
		if err := i.add(&e); err != nil {
			return tee.Endorsements{}, err
		}
	}
	return e, nil
}

func wantedBy(q *dcap.Quote) func(Item) bool {
	name, err := q.PlatformName()
	if err != nil {
		return func(Item) bool { return false }
	}
	kind := string(q.Kind)
	want := map[string]bool{
		Item{Kind: IntelTCBInfo, Name: kind + "/" + hex.EncodeToString(name.FMSPC[:])}.key(): true,
		Item{Kind: IntelQEIdentity, Name: kind}.key():                                        true,
		Item{Kind: IntelPCKCRL, Name: name.Authority}.key():                                  true,
		Item{Kind: IntelRootCRL, Name: "root"}.key():                                         true,
	}
	return func(i Item) bool { return want[i.key()] }
}

// wantedByReport wants everything of the product, of VCEKs the one of the chip at
// its level. A report of version 2 does not say its product, so its VCEK may be
// of any.
func wantedByReport(r *snp.Report) func(Item) bool {
	return func(i Item) bool {
		product, _, _ := strings.Cut(i.Name, "/")
		if p := r.Product(); p != "" && p != snp.Product(product) {
			return false
		}
		if i.Kind == AMDVCEK {
			return strings.HasSuffix(snp.KDSURL(r, snp.Product(product)), "/vcek/v1/"+i.Name)
		}
		return i.Kind == AMDChain || i.Kind == AMDCRL
	}
}
