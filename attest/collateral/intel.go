package collateral

import (
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
	family := hex.EncodeToString(fmspc[:])
	api := strings.TrimSuffix(s.Base, "/")
	if api == "" {
		api = IntelPCS
	}
	root := s.RootCRL
	if root == "" {
		root = intelRootCRL
	}
	wants := []struct {
		kind              Kind
		name, url, header string
	}{
		{IntelTCBInfo, string(kind) + "/" + family, api + "/" + string(kind) + "/certification/v4/tcb?fmspc=" + family, "TCB-Info-Issuer-Chain"},
		{IntelQEIdentity, string(kind), api + "/" + string(kind) + "/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain"},
		{IntelPCKCRL, ca, api + "/sgx/certification/v4/pckcrl?ca=" + ca + "&encoding=der", "SGX-PCK-CRL-Issuer-Chain"},
		{IntelRootCRL, "root", root, ""},
	}
	items := make([]Item, 0, len(wants))
	for _, w := range wants {
		data, header, err := get(ctx, s.Client, w.url)
		if err != nil {
			return nil, fmt.Errorf("fetch %s %s: %w", w.kind, w.name, err)
		}
		chain := ""
		if w.header != "" {
			if chain = chainOf(header.Get(w.header)); chain == "" {
				return nil, fmt.Errorf("fetch %s %s: no issuer chain in the answer", w.kind, w.name)
			}
		}
		i, err := newItem(w.kind, w.name, w.url, s.Now(), data, chain)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", w.url, err)
		}
		items = append(items, i)
	}
	return items, nil
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
