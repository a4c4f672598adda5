package azure_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tdx"
	"github.com/cloister-cc/cloister/tee/tpm"
)

func base64URL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// host is the metadata service of a VM's host.
type host struct {
	t     *testing.T
	vcek  []byte // DER
	chain [][]byte
	busy  int // how often it says so first
	asked int
	quote func(report []byte) []byte
	// answer replaces the service.
	answer http.HandlerFunc
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.asked++
	if h.answer != nil {
		h.answer(w, r)
		return
	}
	if r.Header.Get("Metadata") != "true" {
		h.t.Error("the header Metadata is missing")
	}
	if h.busy > 0 {
		h.busy--
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /metadata/THIM/amd/certification":
		var chain []byte
		for _, der := range h.chain {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{
			"vcekCert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.vcek})), "certificateChain": string(chain), "tcbm": "DB18000000000004", "cacheControl": "86400",
		})
	case "POST /acc/tdquote":
		var request map[string]string
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(request) != 1 || r.Header.Get("Content-Type") != "application/json" {
			h.t.Errorf("request %v, %v", request, err)
		}
		report, err := base64.RawURLEncoding.DecodeString(request["report"])
		if err != nil || len(report) != 1024 {
			h.t.Errorf("TDREPORT of %d bytes, %v", len(report), err)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"quote": base64URL(h.quote(report))})
	default:
		http.NotFound(w, r)
	}
}

// vm is a VM with a guest's attester in it.
func vm(t *testing.T, kind tee.Kind) (*azure.Attester, *paravisor, *host) {
	t.Helper()
	p := newParavisor(t)
	if kind == tee.AzureTDX {
		p.kind = 4
	}
	h := &host{t: t, vcek: p.machine.key.Certificate, chain: [][]byte{p.machine.manufacturer.ASK.Certificate.Raw, p.machine.manufacturer.ARK.Certificate.Raw}}
	service := httptest.NewServer(h)
	t.Cleanup(service.Close)
	return guest(t, kind, p, azure.Options{Metadata: service.URL + "/"}), p, h
}

// guest is an attester in a VM.
func guest(t *testing.T, kind tee.Kind, p *paravisor, o azure.Options) *azure.Attester {
	t.Helper()
	inside, err := tpm.NewAttester(p, azure.TPMOptions(o))
	if err != nil {
		t.Fatal(err)
	}
	a, err := azure.NewAttester(kind, inside, o)
	if err != nil {
		t.Fatal(err)
	}
	azure.SetWait(a, 300*time.Millisecond)
	return a
}

// TestAttesterSNP: evidence of a VM verifies, from the chip to the nonce.
func TestAttesterSNP(t *testing.T) {
	a, p, h := vm(t, tee.AzureSNP)
	reportData := [64]byte{1, 2, 63: 3}
	ev, err := a.Evidence(t.Context(), reportData)
	if err != nil || ev.Kind != tee.AzureSNP || a.Kind() != tee.AzureSNP {
		t.Fatal(ev.Kind, err)
	}
	claims, _, err := azure.NewSNP(snp.New()).Verify(ev, p.machine.input())
	if err != nil {
		t.Fatal(err)
	}
	measurement := p.machine.key.Report().Measurement
	pcrs := claims.Vendor["pcrs"].(map[string]any)["sha256"].(map[string]any)
	if [64]byte(claims.ReportData) != reportData || !bytes.Equal(claims.Measurement, measurement[:]) || claims.InstanceID != "A-B" ||
		claims.Vendor["user_data"] != hex.EncodeToString(reportData[:]) || len(pcrs) != 24 {
		t.Errorf("claims %+v", claims)
	}
	// A host that is busy is asked again; a paravisor that takes no user data gives
	// evidence all the same, for it is the quote that is fresh.
	h.busy, p.deaf = 1, true
	if ev, err = a.Evidence(t.Context(), [64]byte{9}); err != nil {
		t.Fatal(err)
	}
	if claims, _, err = azure.NewSNP(snp.New()).Verify(ev, p.machine.input()); err != nil || claims.ReportData[0] != 9 || claims.Vendor["user_data"] != "00ff" {
		t.Errorf("%+v, %v", claims, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.Evidence(t.Context(), reportData); !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Errorf("after Close: %v", err)
	}
}

// TestAttesterPCRs quotes some registers only.
func TestAttesterPCRs(t *testing.T) {
	p := newParavisor(t)
	service := httptest.NewServer(&host{t: t, vcek: p.machine.key.Certificate})
	defer service.Close()
	a := guest(t, tee.AzureSNP, p, azure.Options{Metadata: service.URL, PCRs: []uint32{7, 4, 7}})
	ev, err := a.Evidence(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := azure.NewSNP(snp.New()).Verify(ev, p.machine.input())
	if err != nil || len(claims.Vendor["pcrs"].(map[string]any)["sha256"].(map[string]any)) != 2 {
		t.Errorf("%+v, %v", claims, err)
	}
}

// TestAttesterTDX: the TDREPORT in the paravisor's report becomes a quote.
func TestAttesterTDX(t *testing.T) {
	a, _, h := vm(t, tee.AzureTDX)
	intel := dcaptest.New(t)
	platform := intel.Platform(t, dcaptest.PlatformOptions{})
	h.quote = func(report []byte) []byte {
		body := dcaptest.TDBody(dcap.TD10Body)
		copy(body[520:], report[128:][:64])
		return platform.Quote(t, dcaptest.QuoteOptions{Type: dcap.TD10Body, Body: body})
	}
	ev, err := a.Evidence(t.Context(), [64]byte{5})
	if err != nil || ev.Kind != tee.AzureTDX || a.Kind() != tee.AzureTDX {
		t.Fatal(ev.Kind, err)
	}
	claims, _, err := azure.NewTDX(tdx.New()).Verify(ev, intel.Input(t, dcaptest.CollateralOptions{TDX: true}))
	if err != nil || claims.ReportData[0] != 5 || claims.TCB != tee.TCBUpToDate {
		t.Errorf("%+v, %v", claims, err)
	}
	h.quote = func([]byte) []byte { return nil }
	refusesEvidence(t, a, tee.CodeUnavailable)
}

func refusesEvidence(t *testing.T, a *azure.Attester, code tee.Code) {
	t.Helper()
	ev, err := a.Evidence(t.Context(), [64]byte{})
	if !errors.Is(err, &tee.Error{Code: code}) || ev.Data != nil {
		t.Errorf("%v, want %s", err, code)
	}
}

func TestAttesterRefusesReports(t *testing.T) {
	a, p, _ := vm(t, tee.AzureSNP)
	// The TPM signs with its key, and the report speaks of another.
	p.machine.runtime["keys"] = []any{jwk(t, "HCLAkPub", p.machine.tpm.Key)}
	refusesEvidence(t, a, tee.CodeBinding)
	delete(p.machine.runtime, "keys")
	refusesEvidence(t, a, tee.CodeUnavailable)
	p.change = func(b []byte) []byte { return append(b[:1200:1200], make([]byte, 848)...) } // truncated
	refusesEvidence(t, a, tee.CodeUnavailable)
	p.change = func(b []byte) []byte { clear(b); return b }
	refusesEvidence(t, a, tee.CodeUnavailable)
	inside, err := tpm.NewAttester(p, azure.TPMOptions(azure.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := azure.NewAttester(tee.AzureSNP, inside, azure.Options{}); !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Errorf("no report: %v, want unavailable", err)
	}
	p.change = nil
	if _, err := azure.NewAttester(tee.AzureTDX, inside, azure.Options{}); !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Errorf("on other hardware: %v, want unavailable", err)
	}
	if _, err := azure.NewAttester(tee.TPM, inside, azure.Options{}); !errors.Is(err, &tee.Error{Code: tee.CodeUnsupported}) {
		t.Errorf("another kind: %v, want unsupported", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Evidence(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

// TestAttesterRefusesHosts: whatever the metadata service does instead of an answer.
func TestAttesterRefusesHosts(t *testing.T) {
	a, p, h := vm(t, tee.AzureSNP)
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	write := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		asked  int
	}{
		"not found":      {http.NotFound, 1},
		"broken":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 3},
		"redirect":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, 1},
		"endless":        {write(strings.Repeat(" ", 128<<10+1)), 1},
		"no JSON":        {write("<html>"), 1},
		"no certificate": {write(`{"certificateChain":""}`), 1},
		"no PEM":         {write(`{"vcekCert":"AAAA"}`), 1},
		"other PEM":      {write(`{"vcekCert":"-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n"}`), 1},
	} {
		h.answer, h.asked = c.answer, 0
		refusesEvidence(t, a, tee.CodeUnavailable)
		if h.asked != c.asked || elsewhere > 0 {
			t.Errorf("%s: asked %d times, and %d times elsewhere", name, h.asked, elsewhere)
		}
	}
	nobody := guest(t, tee.AzureSNP, p, azure.Options{Metadata: "http://127.0.0.1:1"})
	refusesEvidence(t, nobody, tee.CodeUnavailable)
	refusesEvidence(t, guest(t, tee.AzureSNP, p, azure.Options{Metadata: ":"}), tee.CodeUnavailable)
}

// TestNoProxy: what is asked of the host goes to nobody else. Go never uses a proxy
// for this machine itself, so it cannot be seen from outside.
func TestNoProxy(t *testing.T) {
	if a, _, _ := vm(t, tee.AzureSNP); azure.Proxied(a) {
		t.Error("goes through a proxy")
	}
}

// TestAttesterLog: a log is sent along if it replays, else evidence has none.
func TestAttesterLog(t *testing.T) {
	p := newParavisor(t)
	service := httptest.NewServer(&host{t: t, vcek: p.machine.key.Certificate})
	defer service.Close()
	empty := (&eventlog.Log{Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA256}}).Encode()
	for _, c := range []struct{ log, want []byte }{{empty, empty}, {p.machine.tpm.Log, nil}, {[]byte("junk"), nil}} {
		o := azure.TPMOptions(azure.Options{})
		o.EventLog = func() ([]byte, error) { return c.log, nil }
		inside, err := tpm.NewAttester(p, o)
		if err != nil {
			t.Fatal(err)
		}
		a, err := azure.NewAttester(tee.AzureSNP, inside, azure.Options{Metadata: service.URL})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := a.Evidence(t.Context(), [64]byte{})
		if err != nil || !bytes.Equal(ev.EventLog, c.want) {
			t.Fatalf("log %q, %v", ev.EventLog, err)
		}
		if _, _, err := azure.NewSNP(snp.New()).Verify(ev, p.machine.input()); err != nil {
			t.Error(err)
		}
	}
}

// TestOpen is about a machine that is no such VM, mostly.
func TestOpen(t *testing.T) {
	if _, err := os.Stat(tpm.DevicePath); err == nil {
		t.Skip("this machine has a TPM; tests leave it alone")
	}
	for _, open := range []func(azure.Options) (*azure.Attester, error){azure.OpenSNP, azure.OpenTDX} {
		if _, err := open(azure.Options{}); !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
			t.Errorf("error %v, want unavailable", err)
		}
	}
}
