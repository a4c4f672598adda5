package collateral_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/verify"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
)

var recordedAt = time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)

// recordedService replays Intel's answers of the day of a recorded quote.
func recordedService(t *testing.T) (*httptest.Server, map[string]string) {
	t.Helper()
	var set map[string]string
	if err := json.Unmarshal(must(os.ReadFile("../../tee/tdx/testdata/v4-collateral.json")), &set); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(pattern, header, chain string, body []byte) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, strings.ReplaceAll(url.QueryEscape(set[chain]), "+", "%20"))
			_, _ = w.Write(body)
		})
	}
	answer("/tdx/certification/v4/tcb", "TCB-Info-Issuer-Chain", "tcb_info_issuer_chain", fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, set["tcb_info"], set["tcb_info_signature"]))
	answer("/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain", fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, set["qe_identity"], set["qe_identity_signature"]))
	answer("/sgx/certification/v4/pckcrl", "SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain", must(hex.DecodeString(set["pck_crl"])))
	answer("/root.der", "X", "", must(hex.DecodeString(set["root_ca_crl"])))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s, set
}

// viaCache sends another verifier's requests for Intel's service to ours.
type viaCache struct{ cache *httptest.Server }

func (c viaCache) Get(u string) (map[string][]string, []byte, error) {
	parsed, err := url.Parse(u)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.cache.Client().Get(c.cache.URL + parsed.RequestURI())
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", u, resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	return resp.Header, b, err
}

// TestAnotherVerifierUsesTheCache: go-tdx-guest verifies a real quote, revocation
// and TCB included, with our cache as its only source.
func TestAnotherVerifierUsesTheCache(t *testing.T) {
	vendor, set := recordedService(t)
	quote := must(os.ReadFile("../../tee/tdx/testdata/v4-quote.bin"))
	name := must(must(dcap.ParseQuote(quote)).PlatformName())
	service := collateral.Intel{Client: vendor.Client(), Base: vendor.URL, RootCRL: vendor.URL + "/root.der", Now: func() time.Time { return recordedAt }}
	store := must(collateral.OpenStore(t.TempDir()))
	if err := store.Add(must(service.Fetch(t.Context(), tee.TDX, name.FMSPC, name.Authority))...); err != nil {
		t.Fatal(err)
	}
	cache := httptest.NewServer(store.Handler())
	defer cache.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(set["tcb_info_issuer_chain"]))
	err := verify.RawTdxQuote(quote, &verify.Options{
		CheckRevocations: true, GetCollateral: true, Getter: viaCache{cache}, TrustedRoots: roots,
		Now: &verify.TimeSet{PckCertChain: recordedAt, TcbInfo: recordedAt, QeIdentity: recordedAt, PckCrl: recordedAt, RootCaCrl: recordedAt},
	})
	if err != nil {
		t.Error(err)
	}
}
