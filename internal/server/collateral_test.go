package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"encoding/pem"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
)

// fakeNode is what a courier sees of a node.
type fakeNode struct{ shelf *collateral.Shelf }

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shelf := n.shelf
	switch r.Method {
	case http.MethodGet:
		ctx, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
		defer cancel()
		_ = json.NewEncoder(w).Encode(shelf.Wanted(ctx))
	default:
		var items []collateral.Item
		if err := json.NewDecoder(r.Body).Decode(&items); err != nil || shelf.Add(items...) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// intelService is Intel's PCS with a test Intel behind it.
func intelService(t testing.TB, intel *dcaptest.Intel, asked *atomic.Int32) *httptest.Server {
	t.Helper()
	e := intel.Endorsements(t, dcaptest.CollateralOptions{})
	chain := func(a *dcaptest.Authority) string {
		return url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})) +
			string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: intel.Root.Certificate.Raw})))
	}
	mux := http.NewServeMux()
	for path, answer := range map[string]struct {
		header string
		signer *dcaptest.Authority
		body   []byte
	}{
		"/sgx/certification/v4/tcb":         {"TCB-Info-Issuer-Chain", intel.TCBSigner, e.Collateral["tcbinfo.json"]},
		"/sgx/certification/v4/qe/identity": {"SGX-Enclave-Identity-Issuer-Chain", intel.TCBSigner, e.Collateral["qeidentity.json"]},
		"/sgx/certification/v4/pckcrl":      {"SGX-PCK-CRL-Issuer-Chain", intel.PlatformCA, e.CRLs[1]},
		"/root.der":                         {"", nil, e.CRLs[0]},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			if answer.header != "" {
				w.Header().Set(answer.header, chain(answer.signer))
			}
			_, _ = w.Write(answer.body)
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func newCourier(t *testing.T, node *fakeNode, sources *collateral.Sources) *courier {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: node}
	go func() { _ = server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}}
	c := &courier{
		dir: t.TempDir(), sources: sources, node: &http.Client{Transport: transport}, logger: slog.New(slog.DiscardHandler),
		now: func() time.Time { return dcaptest.At }, tried: map[string]time.Time{},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); transport.CloseIdleConnections(); _ = server.Close() })
	return c
}

// upToDate waits until a verifier with the node's collateral is content.
func upToDate(t *testing.T, node *fakeNode, intel *dcaptest.Intel, ev tee.Evidence) {
	t.Helper()
	var last error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		e, err := node.shelf.For(ev, dcaptest.At)
		if err != nil {
			t.Fatal(err)
		}
		c, findings, err := sgx.New().Verify(ev, tee.Input{Endorsements: e, Roots: intel.Roots(), At: dcaptest.At})
		if err == nil && len(findings) == 0 && c.TCB == tee.TCBUpToDate {
			return
		}
		last = errors.Join(err, fmt.Errorf("findings %v", findings))
	}
	t.Fatal(last)
}

// TestCourier fetches what the node asks for, once, and brings it.
func TestCourier(t *testing.T) {
	intel := dcaptest.New(t)
	var asked atomic.Int32
	vendor := intelService(t, intel, &asked)
	node := &fakeNode{shelf: &collateral.Shelf{}}
	newCourier(t, node, &collateral.Sources{Intel: collateral.Intel{Client: vendor.Client(), Base: vendor.URL, RootCRL: vendor.URL + "/root.der", Now: func() time.Time { return dcaptest.At }}})
	ev := intel.Platform(t, dcaptest.PlatformOptions{}).Evidence(t, dcaptest.QuoteOptions{})
	upToDate(t, node, intel, ev)
	if n := asked.Load(); n != 4 {
		t.Errorf("%d requests to the vendor, want 4", n)
	}
}

// TestCourierBringsWhatWasImported, without any network.
func TestCourierBringsWhatWasImported(t *testing.T) {
	intel := dcaptest.New(t)
	var asked atomic.Int32
	vendor := intelService(t, intel, &asked)
	ev := intel.Platform(t, dcaptest.PlatformOptions{}).Evidence(t, dcaptest.QuoteOptions{})
	p, _ := collateral.PlatformOf(ev)
	items, err := collateral.Sources{Intel: collateral.Intel{Client: vendor.Client(), Base: vendor.URL, RootCRL: vendor.URL + "/root.der", Now: func() time.Time { return dcaptest.At }}}.Fetch(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	node := &fakeNode{shelf: &collateral.Shelf{}}
	c := newCourier(t, node, nil)
	store, err := collateral.OpenStore(c.dir) // another process's
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(items...); err != nil {
		t.Fatal(err)
	}
	upToDate(t, node, intel, ev)
	if n := asked.Load(); n != 4 {
		t.Errorf("the courier fetched: %d requests", n)
	}
}

// TestCourierRefreshes what is about to go stale, and not all the time.
func TestCourierRefreshes(t *testing.T) {
	intel := dcaptest.New(t)
	var asked atomic.Int32
	vendor := intelService(t, intel, &asked)
	now := dcaptest.At
	sources := &collateral.Sources{Intel: collateral.Intel{Client: vendor.Client(), Base: vendor.URL, RootCRL: vendor.URL + "/root.der", Now: func() time.Time { return now }}}
	ev := intel.Platform(t, dcaptest.PlatformOptions{}).Evidence(t, dcaptest.QuoteOptions{})
	p, _ := collateral.PlatformOf(ev)
	c := &courier{dir: t.TempDir(), sources: sources, logger: slog.New(slog.DiscardHandler), now: func() time.Time { return now }, tried: map[string]time.Time{}}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	fetched := func() int32 { before := asked.Load(); c.fetch(t.Context(), nil); return asked.Load() - before }
	c.fetch(t.Context(), []collateral.Platform{p})
	if n := fetched(); n != 0 {
		t.Errorf("%d requests for what is fresh", n)
	}
	now = dcaptest.At.AddDate(0, 0, 27) // two documents of 30 days are due
	if n := fetched(); n < 2 {
		t.Errorf("%d requests for what is due", n)
	}
	if n := fetched(); n != 0 {
		t.Errorf("%d requests again at once", n)
	}
	vendor.Close()
	now = now.Add(2 * fetchInterval)
	c.fetch(t.Context(), nil) // fails, and what is there stays
	if len(c.store.Items()) != 4 {
		t.Errorf("%d items", len(c.store.Items()))
	}
}
