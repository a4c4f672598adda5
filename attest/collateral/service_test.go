package collateral_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// vendor is Intel's service with a test Intel behind it: its paths, parameters
// and headers are those of the PCS API, version 4.
type vendor struct {
	intel    *dcaptest.Intel
	platform *dcaptest.Platform
	escape   func(string) string // of chains in headers
	broken   bool
}

func newVendor(t testing.TB) (*vendor, *httptest.Server) {
	t.Helper()
	return newVendorOf(t, dcaptest.New(t), dcaptest.CollateralOptions{})
}

// newVendorOf is a service that gives out the collateral that o describes.
func newVendorOf(t testing.TB, intel *dcaptest.Intel, o dcaptest.CollateralOptions) (*vendor, *httptest.Server) {
	t.Helper()
	v := &vendor{intel: intel, platform: intel.Platform(t, dcaptest.PlatformOptions{}), escape: url.PathEscape}
	chain := func(a *dcaptest.Authority) string {
		return v.escape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})) +
			string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: intel.Root.Certificate.Raw})))
	}
	mux := http.NewServeMux()
	answer := func(pattern, header string, signer *dcaptest.Authority, body func(r *http.Request) []byte) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			b := body(r)
			if b == nil || v.broken {
				http.Error(w, "no", http.StatusNotFound)
				return
			}
			if header != "" {
				w.Header().Set(header, chain(signer))
			}
			_, _ = w.Write(b)
		})
	}
	for _, kind := range []string{"sgx", "tdx"} {
		o.TDX = kind == "tdx"
		e := intel.Endorsements(t, o)
		answer("/"+kind+"/certification/v4/tcb", "TCB-Info-Issuer-Chain", intel.TCBSigner, func(r *http.Request) []byte {
			if r.FormValue("fmspc") != "00c10157e400" {
				return nil
			}
			return e.Collateral["tcbinfo.json"]
		})
		answer("/"+kind+"/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain", intel.TCBSigner, func(*http.Request) []byte { return e.Collateral["qeidentity.json"] })
		if kind == "sgx" {
			answer("/sgx/certification/v4/pckcrl", "SGX-PCK-CRL-Issuer-Chain", intel.PlatformCA, func(r *http.Request) []byte {
				if r.FormValue("ca") != "platform" || r.FormValue("encoding") != "der" {
					return nil
				}
				return e.CRLs[1]
			})
			answer("/root.der", "", nil, func(*http.Request) []byte { return e.CRLs[0] })
		}
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return v, s
}

func now() time.Time { return dcaptest.At }

func intelClient(s *httptest.Server) collateral.Intel {
	return collateral.Intel{Client: s.Client(), Base: s.URL, RootCRL: s.URL + "/root.der", Now: now}
}

// TestIntel fetches, keeps and verifies with what was fetched.
func TestIntel(t *testing.T) {
	v, s := newVendor(t)
	for _, kind := range []tee.Kind{tee.SGX, tee.TDX} {
		o := dcaptest.QuoteOptions{}
		if kind == tee.TDX {
			o.Type = dcap.TD10Body
		}
		ev := v.platform.Evidence(t, o)
		name, err := must(dcap.ParseQuote(ev.Data)).PlatformName()
		if err != nil || name.FMSPC != dcaptest.FMSPC || name.Authority != "platform" {
			t.Fatal(name, err)
		}
		items, err := intelClient(s).Fetch(t.Context(), kind, name.FMSPC, name.Authority)
		if err != nil || len(items) != 4 {
			t.Fatal(len(items), err)
		}
		for _, i := range items {
			if i.State(dcaptest.At) != collateral.Current || i.NextUpdate.IsZero() || !i.FetchedAt.Equal(dcaptest.At) || i.Source == "" {
				t.Errorf("%+v", i)
			}
		}
		e, err := collateral.NewBundle(dcaptest.At, items).Endorsements()
		if err != nil {
			t.Fatal(err)
		}
		var d dcap.Verifier
		r, err := d.Verify(kind, ev, tee.Input{Roots: v.intel.Roots(), At: dcaptest.At, Endorsements: e})
		if err != nil || r.Status != tee.TCBUpToDate || len(r.Findings) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestChainHeaders: services escape a PEM chain in three ways.
func TestChainHeaders(t *testing.T) {
	for name, escape := range map[string]func(string) string{
		"as Intel": func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }, "path": url.PathEscape, "form": url.QueryEscape,
	} {
		v, s := newVendor(t)
		v.escape = escape
		items, err := intelClient(s).Fetch(t.Context(), tee.SGX, dcaptest.FMSPC, "platform")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := collateral.NewBundle(dcaptest.At, items).Endorsements(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIntelRefuses(t *testing.T) {
	v, s := newVendor(t)
	c := intelClient(s)
	for name, fetch := range map[string]func() error{
		"another TEE":       func() error { _, err := c.Fetch(t.Context(), tee.SNP, dcaptest.FMSPC, "platform"); return err },
		"another authority": func() error { _, err := c.Fetch(t.Context(), tee.SGX, dcaptest.FMSPC, "root"); return err },
		"unknown family":    func() error { _, err := c.Fetch(t.Context(), tee.SGX, [6]byte{1}, "platform"); return err },
		"zero value": func() error {
			_, err := collateral.Intel{}.Fetch(t.Context(), tee.SGX, dcaptest.FMSPC, "platform")
			return err
		},
		"broken": func() error {
			v.broken = true
			_, err := c.Fetch(t.Context(), tee.SGX, dcaptest.FMSPC, "platform")
			return err
		},
	} {
		if err := fetch(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// kds is AMD's service with a test AMD behind it.
func kds(t testing.TB) (*snptest.Manufacturer, *snptest.Key, *httptest.Server) {
	t.Helper()
	m := snptest.New(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	mux := http.NewServeMux()
	give := func(pattern string, b []byte) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.ASK.Certificate.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.ARK.Certificate.Raw})...)
	give("/vcek/v1/Milan/cert_chain", chain)
	give("/vcek/v1/Milan/crl", m.ARK.CRL(t, snptest.Validity{}))
	give("/vcek/v1/Milan/{chip}", k.Certificate)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return m, k, s
}

func TestAMD(t *testing.T) {
	m, k, s := kds(t)
	ev := k.Evidence(k.Report())
	ev.Certificates = nil
	r := must(snp.ParseReport(ev.Data))
	amd := collateral.AMD{Client: s.Client(), Base: s.URL, Now: func() time.Time { return snptest.At }}
	items, err := amd.Fetch(t.Context(), r, snp.Milan)
	if err != nil || len(items) != 3 {
		t.Fatal(len(items), err)
	}
	e := must(collateral.NewBundle(snptest.At, items).Endorsements())
	claims, findings, err := snp.New().Verify(ev, tee.Input{Roots: m.Roots(), At: snptest.At, Endorsements: e})
	if err != nil || len(findings) > 0 {
		t.Errorf("%v, %v, %v", claims, findings, err)
	}
	if _, err := amd.Fetch(t.Context(), r, ""); err == nil {
		t.Error("no product, and no error")
	}
	if _, err := amd.Fetch(t.Context(), r, snp.Genoa); err == nil {
		t.Error("another product's service answers")
	}
}
