package collateral

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
)

// Platform is what a vendor has to be asked about to get the collateral of a
// platform, and nothing else of its evidence.
type Platform struct {
	TEE tee.Kind `json:"tee"` // SGX, TDX or SNP
	// FMSPC (hex) and Authority ("platform" or "processor") are Intel's.
	FMSPC     string `json:"fmspc,omitempty"`
	Authority string `json:"authority,omitempty"`
	// Product is AMD's; VCEK is the certificate's name: product, chip and levels as
	// in the path of AMD's service, empty where a VLEK signed. A report of version
	// 2 does not say its product, so nothing can be fetched for it.
	Product string `json:"product,omitempty"`
	VCEK    string `json:"vcek,omitempty"`
}

// PlatformOf reads what evidence says of its platform, unverified. ok is false
// for evidence that needs no collateral of a vendor.
func PlatformOf(ev tee.Evidence) (p Platform, ok bool) {
	if below, ok := azure.Hardware(ev); ok {
		ev = below
	}
	if q, err := dcap.ParseQuote(sgx.Quote(ev.Data)); err == nil {
		return platformOfQuote(q)
	}
	return platformOfReport(ev)
}

func platformOfQuote(q *dcap.Quote) (Platform, bool) {
	name, err := q.PlatformName()
	return Platform{TEE: q.Kind, FMSPC: hex.EncodeToString(name.FMSPC[:]), Authority: name.Authority}, err == nil
}

func platformOfReport(ev tee.Evidence) (p Platform, ok bool) {
	r, err := snp.ParseReport(ev.Data)
	if err != nil {
		return Platform{}, false
	}
	p = Platform{TEE: tee.SNP, Product: string(r.Product())}
	if r.SigningKey == snp.VCEK {
		// Without a product the name lacks it: "/" and the chip with its levels,
		// which Milan and Genoa, all that such reports are of, write alike.
		_, p.VCEK, _ = strings.Cut(snp.KDSURL(r, snp.Product(cmp.Or(p.Product, string(snp.Milan)))), "/vcek/v1/")
		if p.Product == "" {
			p.VCEK = strings.TrimPrefix(p.VCEK, string(snp.Milan))
		}
	}
	return p, true
}

// check refuses a platform that no evidence names: the names become part of URLs.
func (p Platform) check() error {
	fmspc, err := hex.DecodeString(p.FMSPC)
	switch p.TEE {
	case tee.SGX, tee.TDX:
		if err != nil || len(fmspc) != 6 || p.Authority != "platform" && p.Authority != "processor" || p.Product+p.VCEK != "" {
			return fmt.Errorf("%s: want an FMSPC and its authority", p.TEE)
		}
	case tee.SNP:
		rest, prefixed := strings.CutPrefix(p.VCEK, p.Product+"/")
		plain := strings.Trim(rest, "0123456789abcdefSPLltuomn?=&") == ""
		if !slices.Contains([]snp.Product{snp.Milan, snp.Genoa, snp.Turin}, snp.Product(p.Product)) || p.VCEK != "" && (!prefixed || !plain) || p.FMSPC+p.Authority != "" {
			return fmt.Errorf("%s: want a product, and a chip with its levels", p.TEE)
		}
	default:
		return fmt.Errorf("%.32q is no TEE with collateral", string(p.TEE))
	}
	return nil
}

// names are the items that the platform needs.
func (p Platform) names() []Item {
	if p.TEE == tee.SNP {
		return amdNames(p.Product, p.VCEK)
	}
	return intelNames(p.TEE, strings.ToLower(p.FMSPC), p.Authority)
}

// wants reports whether an item is of the platform. For a report that does not
// say its product that is any of AMD's but the certificates of other chips.
func (p Platform) wants(i Item) bool {
	if p.TEE == tee.SNP && p.Product == "" {
		return i.Kind == AMDChain || i.Kind == AMDCRL || i.Kind == AMDVCEK && p.VCEK != "" && strings.HasSuffix(i.Name, p.VCEK)
	}
	return slices.ContainsFunc(p.names(), func(n Item) bool { return n.key() == i.key() })
}

// Sources are the services that collateral is fetched from.
type Sources struct {
	Intel Intel
	AMD   AMD
}

// Fetch returns everything that a platform needs.
func (s Sources) Fetch(ctx context.Context, p Platform) ([]Item, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("fetch collateral: %w", err)
	}
	var items []Item
	for _, n := range p.names() {
		i, err := s.again(ctx, n)
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

// Refresh fetches an item again.
func (s Sources) Refresh(ctx context.Context, i Item) (Item, error) { return s.again(ctx, i) }

func (s Sources) again(ctx context.Context, i Item) (Item, error) {
	switch i.Kind {
	case IntelTCBInfo, IntelQEIdentity, IntelPCKCRL, IntelRootCRL:
		return s.Intel.one(ctx, i.Kind, i.Name)
	case AMDChain, AMDCRL, AMDVCEK:
		return s.AMD.one(ctx, i.Kind, i.Name)
	}
	return Item{}, fmt.Errorf("fetch collateral: %.64q is not known", string(i.Kind))
}

// Due reports whether an item should be fetched again: when two thirds of the time
// to its next update have passed, so that an outage of the vendor's is over before
// it matters. What has no next update, and certificates of chips, are not due.
func (i Item) Due(at time.Time) bool {
	if i.NextUpdate.IsZero() || i.Kind == AMDVCEK {
		return false
	}
	from := i.IssuedAt
	if i.FetchedAt.After(from) && i.FetchedAt.Before(i.NextUpdate) {
		from = i.FetchedAt
	}
	return at.After(from.Add(i.NextUpdate.Sub(from) * 2 / 3))
}

// Missing are the platform's items that are not among these, or not current.
func (p Platform) Missing(items []Item, at time.Time) []Item {
	if p.check() != nil {
		return nil
	}
	var out []Item
	for _, n := range p.names() {
		if !slices.ContainsFunc(items, func(i Item) bool { return i.key() == n.key() && i.State(at) == Current }) {
			out = append(out, n)
		}
	}
	return out
}

// complete reports whether all of the platform's items are among these.
func (p Platform) complete(items []Item) bool {
	return p.check() != nil || !slices.ContainsFunc(p.names(), func(n Item) bool {
		return !slices.ContainsFunc(items, func(i Item) bool { return i.key() == n.key() })
	})
}

// until is how long all of the platform's items are current.
func (p Platform) until(items []Item) time.Time {
	until := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, i := range items {
		if p.wants(i) && !i.NextUpdate.IsZero() && i.NextUpdate.Before(until) {
			until = i.NextUpdate
		}
	}
	return until
}

func (p Platform) String() string {
	if p.TEE == tee.SNP {
		return string(p.TEE) + " " + cmp.Or(p.VCEK, p.Product)
	}
	return string(p.TEE) + " " + p.FMSPC + " " + p.Authority
}
