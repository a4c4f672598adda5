package collateral

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee/snp"
)

// AMDKDS is AMD's service (57230, "VCEK Certificate and KDS Interface
// Specification").
const AMDKDS = "https://kdsintf.amd.com"

// AMD fetches what reports of SEV-SNP need. The zero value has no client and
// fetches nothing.
type AMD struct {
	Client *http.Client
	// Base is the service; empty is [AMDKDS].
	Base string
	// Now is the clock of FetchedAt.
	Now func() time.Time
}

// Fetch returns the VCEK that a report needs, the chain of its product and the
// product's revocation list. p is the product; a report of version 2 does not say
// it. A report that a VLEK signed has no VCEK: the guest's provider has its
// certificate.
func (s AMD) Fetch(ctx context.Context, r *snp.Report, p snp.Product) ([]Item, error) {
	if p == "" || r.SigningKey != snp.VCEK {
		return nil, errors.New("fetch collateral of AMD: the report names no product, or no VCEK signed it")
	}
	path, ok := strings.CutPrefix(snp.KDSURL(r, p), AMDKDS)
	if !ok {
		return nil, errors.New("fetch collateral of AMD: no URL for this report")
	}
	api := strings.TrimSuffix(s.Base, "/")
	if api == "" {
		api = AMDKDS
	}
	product := "/vcek/v1/" + string(p)
	var items []Item
	for _, w := range []struct {
		kind       Kind
		name, path string
	}{
		{AMDVCEK, strings.TrimPrefix(path, "/vcek/v1/"), path},
		{AMDChain, string(p), product + "/cert_chain"},
		{AMDCRL, string(p), product + "/crl"},
	} {
		data, _, err := get(ctx, s.Client, api+w.path)
		if err != nil {
			return nil, fmt.Errorf("fetch %s of %s: %w", w.kind, p, err)
		}
		i, err := newItem(w.kind, w.name, api+w.path, s.Now(), data, "")
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", api+w.path, err)
		}
		items = append(items, i)
	}
	return items, nil
}
