package collateral

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// IntelPCS is Intel's service (PCS API, version 4). A PCCS in its place has
// the same paths.
const IntelPCS = "https://api.trustedservices.intel.com"

// intelRootCRL is where Intel's root publishes its list: not under the API.
const intelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

// Intel fetches what quotes of SGX and TDX need. The zero value has no client
// and fetches nothing.
type Intel struct {
	Client *http.Client
	// Base is the service; empty is [IntelPCS].
	Base string
	// RootCRL is where the root's list is; empty is Intel's own place.
	RootCRL string
	// Now is the clock of FetchedAt.
	Now func() time.Time
}

// Fetch returns TCB information for a family of platforms, the identity of the
// quoting enclave, and both revocation lists. kind is tee.SGX or tee.TDX, ca
// "platform" or "processor": who issued the PCK certificate.
func (s Intel) Fetch(ctx context.Context, kind tee.Kind, fmspc [6]byte, ca string) ([]Item, error) {
	if kind != tee.SGX && kind != tee.TDX {
		return nil, fmt.Errorf("fetch collateral of Intel: %q is not a TEE of Intel", string(kind))
	}
	if ca != "platform" && ca != "processor" {
		return nil, fmt.Errorf("fetch collateral of Intel: authority %.32q: want platform or processor", ca)
	}
	var items []Item
	for _, name := range intelNames(kind, hex.EncodeToString(fmspc[:]), ca) {
		i, err := s.one(ctx, name.Kind, name.Name)
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

// intelNames are the items that a platform needs.
func intelNames(kind tee.Kind, fmspc, ca string) []Item {
	return []Item{
		{Kind: IntelTCBInfo, Name: string(kind) + "/" + fmspc}, {Kind: IntelQEIdentity, Name: string(kind)},
		{Kind: IntelPCKCRL, Name: ca}, {Kind: IntelRootCRL, Name: "root"},
	}
}

// one fetches one item.
func (s Intel) one(ctx context.Context, kind Kind, name string) (Item, error) {
	address, header := s.address(kind, name)
	data, headers, err := get(ctx, s.Client, address)
	if err != nil {
		return Item{}, fmt.Errorf("fetch %s %s: %w", kind, name, err)
	}
	chain := ""
	if header != "" {
		if chain = chainOf(headers.Get(header)); chain == "" {
			return Item{}, fmt.Errorf("fetch %s %s: no issuer chain in the answer", kind, name)
		}
	}
	i, err := newItem(kind, name, address, s.Now(), data, chain)
	if err != nil {
		return Item{}, fmt.Errorf("fetch %s: %w", address, err)
	}
	return i, nil
}

// address is where an item is, and the header in which its issuer chain comes.
func (s Intel) address(kind Kind, name string) (address, header string) {
	api := strings.TrimSuffix(cmp.Or(s.Base, IntelPCS), "/")
	switch kind {
	case IntelTCBInfo:
		which, family, _ := strings.Cut(name, "/")
		return api + "/" + which + "/certification/v4/tcb?fmspc=" + url.QueryEscape(family), "TCB-Info-Issuer-Chain"
	case IntelQEIdentity:
		return api + "/" + name + "/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain"
	case IntelPCKCRL:
		return api + "/sgx/certification/v4/pckcrl?ca=" + url.QueryEscape(name) + "&encoding=der", "SGX-PCK-CRL-Issuer-Chain"
	default:
		return cmp.Or(s.RootCRL, intelRootCRL), ""
	}
}

// chainOf reads a PEM chain in a header. Intel writes a space as %20 and a plus
// sign as %2B; caches exist that leave the plus sign as it is, and ones that
// write a plus sign for a space.
func chainOf(header string) string {
	for _, unescape := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
		text, err := unescape(header)
		if block, _ := pem.Decode([]byte(text)); err == nil && block != nil {
			return text
		}
	}
	return ""
}
