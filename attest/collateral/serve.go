package collateral

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
)

// Handler serves what the store holds on the paths of Intel's PCS and PCCS
// (version 3 and 4 of the API) and of AMD's KDS, so that other verifiers need no
// network. It never fetches: what is not there is 404, at once. What it serves is
// public and signed by its vendor.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, version := range []string{"v3", "v4"} {
		for _, kind := range []string{"sgx", "tdx"} {
			api := "GET /" + kind + "/certification/" + version
			mux.HandleFunc(api+"/tcb", func(w http.ResponseWriter, r *http.Request) {
				s.serve(w, IntelTCBInfo, kind+"/"+r.FormValue("fmspc"), "application/json", "TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
			})
			mux.HandleFunc(api+"/qe/identity", func(w http.ResponseWriter, _ *http.Request) {
				s.serve(w, IntelQEIdentity, kind, "application/json", "SGX-Enclave-Identity-Issuer-Chain")
			})
		}
		mux.HandleFunc("GET /sgx/certification/"+version+"/pckcrl", func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, IntelPCKCRL, r.FormValue("ca"), "application/pkix-crl", "SGX-PCK-CRL-Issuer-Chain")
		})
		mux.HandleFunc("GET /sgx/certification/"+version+"/rootcacrl", s.rootCRL)
	}
	mux.HandleFunc("GET /IntelSGXRootCA.der", func(w http.ResponseWriter, _ *http.Request) {
		s.serve(w, IntelRootCRL, "root", "application/pkix-crl")
	})
	mux.HandleFunc("GET /vcek/v1/{product}/cert_chain", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, AMDChain, r.PathValue("product"), "application/x-pem-file")
	})
	mux.HandleFunc("GET /vcek/v1/{product}/crl", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, AMDCRL, r.PathValue("product"), "application/pkix-crl")
	})
	mux.HandleFunc("GET /vcek/v1/{product}/{chip}", s.vcek)
	return mux
}

// serve writes an item, its issuer chain in the headers that clients look at.
func (s *Store) serve(w http.ResponseWriter, kind Kind, name, contentType string, chainHeaders ...string) {
	i, err := s.find(kind, name)
	if err != nil {
		http.Error(w, "not in the cache", http.StatusNotFound)
		return
	}
	for _, h := range chainHeaders {
		// As Intel writes it: a plus sign of base64 must survive either unescaping.
		w.Header().Set(h, strings.ReplaceAll(url.QueryEscape(i.Chain), "+", "%20"))
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(i.Data)
}

// rootCRL gives the root's list in hex, as PCCS does.
func (s *Store) rootCRL(w http.ResponseWriter, _ *http.Request) {
	i, err := s.find(IntelRootCRL, "root")
	if err != nil {
		http.Error(w, "not in the cache", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(hex.EncodeToString(i.Data)))
}

// vcek finds a certificate by chip and levels. Clients write the levels in any
// order and with or without leading zeroes.
func (s *Store) vcek(w http.ResponseWriter, r *http.Request) {
	want := levels(r.URL.Query())
	for _, i := range s.Items() {
		path, query, _ := strings.Cut(i.Name, "?")
		given, err := url.ParseQuery(query)
		if i.Kind == AMDVCEK && err == nil && strings.EqualFold(path, r.PathValue("product")+"/"+r.PathValue("chip")) && levels(given) == want {
			w.Header().Set("Content-Type", "application/pkix-cert")
			_, _ = w.Write(i.Data)
			return
		}
	}
	http.Error(w, "not in the cache", http.StatusNotFound)
}

// levels is a query of levels in one spelling.
func levels(q url.Values) string {
	var b strings.Builder
	for _, name := range []string{"fmcSPL", "blSPL", "teeSPL", "snpSPL", "ucodeSPL"} {
		if q.Has(name) {
			b.WriteString(name + "=" + strings.TrimLeft(q.Get(name), "0") + "&")
		}
	}
	return b.String()
}
