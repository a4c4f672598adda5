package collateral

import (
	"cmp"
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
	return s.fetch(ctx, string(p), strings.TrimPrefix(path, "/vcek/v1/"))
}

func (s AMD) fetch(ctx context.Context, product, vcek string) ([]Item, error) {
	var items []Item
	for _, name := range amdNames(product, vcek) {
		i, err := s.one(ctx, name.Kind, name.Name)
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

// amdNames are the items that a platform needs.
func amdNames(product, vcek string) []Item {
	names := []Item{{Kind: AMDChain, Name: product}, {Kind: AMDCRL, Name: product}}
	if vcek != "" {
		names = append([]Item{{Kind: AMDVCEK, Name: vcek}}, names...)
	}
	return names
}

// one fetches one item.
func (s AMD) one(ctx context.Context, kind Kind, name string) (Item, error) {
	address := strings.TrimSuffix(cmp.Or(s.Base, AMDKDS), "/") + "/vcek/v1/" + name + map[Kind]string{AMDChain: "/cert_chain", AMDCRL: "/crl"}[kind]
	data, _, err := get(ctx, s.Client, address)
	if err != nil {
		return Item{}, fmt.Errorf("fetch %s of %.64s: %w", kind, name, err)
	}
	i, err := newItem(kind, name, address, s.Now(), data, "")
	if err != nil {
		return Item{}, fmt.Errorf("fetch %s: %w", address, err)
	}
	return i, nil
}
