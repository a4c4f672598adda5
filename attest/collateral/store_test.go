package collateral_test

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "collateral")
	s := must(collateral.OpenStore(dir))
	items := fetched(t)
	for range 2 {
		if err := s.Add(items...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add(fetched(t)...); err != nil { // another Intel's, for the same things
		t.Fatal(err)
	}
	again := must(collateral.OpenStore(dir))
	if len(again.Items()) != 4 || len(again.History()) != 8 {
		t.Errorf("%d items, %d with history", len(again.Items()), len(again.History()))
	}
	bad := items[0]
	bad.Digest = strings.Repeat("0", 64)
	if err := s.Add(bad); !errors.Is(err, collateral.ErrStore) {
		t.Errorf("an altered item is kept: %v", err)
	}
}

// TestStoreRefuses a directory in which somebody changed a file, whichever way.
func TestStoreRefuses(t *testing.T) {
	for name, change := range map[string]func(file string, b []byte){
		"altered":   func(f string, b []byte) { write(f, []byte(strings.Replace(string(b), `"name":"`, `"name":"x`, 1))) },
		"truncated": func(f string, b []byte) { write(f, b[:len(b)-1]) },
		"empty":     func(f string, _ []byte) { write(f, nil) },
		"renamed":   func(f string, b []byte) { write(filepath.Join(filepath.Dir(f), "other.json"), b) },
	} {
		dir := t.TempDir()
		s := must(collateral.OpenStore(dir))
		if err := s.Add(fetched(t)[0]); err != nil {
			t.Fatal(err)
		}
		files := must(filepath.Glob(filepath.Join(dir, "*.json")))
		change(files[0], must(os.ReadFile(files[0])))
		if _, err := collateral.OpenStore(dir); !errors.Is(err, collateral.ErrStore) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	write(file, nil)
	if _, err := collateral.OpenStore(file); !errors.Is(err, collateral.ErrStore) {
		t.Errorf("a file for a directory: %v", err)
	}
}

func write(file string, b []byte) {
	if err := os.WriteFile(file, b, 0o600); err != nil {
		panic(err)
	}
}

// TestServesAsIntel: a client that was told that the cache is Intel's service
// gets everything, and verifies with it.
func TestServesAsIntel(t *testing.T) {
	v, s := newVendor(t)
	store := must(collateral.OpenStore(t.TempDir()))
	for _, kind := range []tee.Kind{tee.SGX, tee.TDX} {
		if err := store.Add(must(intelClient(s).Fetch(t.Context(), kind, dcaptest.FMSPC, "platform"))...); err != nil {
			t.Fatal(err)
		}
	}
	v.broken = true // from here on the vendor is not needed
	cache := httptest.NewServer(store.Handler())
	defer cache.Close()
	c := collateral.Intel{Client: cache.Client(), Base: cache.URL, RootCRL: cache.URL + "/IntelSGXRootCA.der", Now: now}
	items, err := c.Fetch(t.Context(), tee.TDX, dcaptest.FMSPC, "platform")
	if err != nil {
		t.Fatal(err)
	}
	e := must(collateral.NewBundle(dcaptest.At, items).Endorsements())
	ev := v.platform.Evidence(t, dcaptest.QuoteOptions{Type: dcap.TD10Body})
	var d dcap.Verifier
	if r, err := d.Verify(tee.TDX, ev, tee.Input{Roots: v.intel.Roots(), At: dcaptest.At, Endorsements: e}); err != nil || r.Status != tee.TCBUpToDate || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for path, want := range map[string]int{
		"/sgx/certification/v4/tcb?fmspc=00C10157E400": 200, "/sgx/certification/v3/tcb?fmspc=00c10157e400": 200, "/sgx/certification/v4/tcb?fmspc=000000000000": 404,
		"/sgx/certification/v4/pckcrl?ca=processor": 404, "/tdx/certification/v4/qe/identity": 200, "/vcek/v1/Milan/cert_chain": 404, "/vcek/v1/Milan/00?blSPL=1": 404, "/other": 404,
	} {
		if got, _ := fetch(t, cache, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if _, b := fetch(t, cache, "/sgx/certification/v4/rootcacrl"); must(hex.DecodeString(string(b))) == nil {
		t.Error("no list in hex")
	}
}

func fetch(t *testing.T, s *httptest.Server, path string) (int, []byte) {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil))
	resp := must(s.Client().Do(req))
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, must(io.ReadAll(resp.Body))
}

// TestServesAsAMD is the same for AMD's.
func TestServesAsAMD(t *testing.T) {
	_, k, s := kds(t)
	store := must(collateral.OpenStore(t.TempDir()))
	r := must(snp.ParseReport(k.Evidence(k.Report()).Data))
	at := func() time.Time { return snptest.At }
	if err := store.Add(must(collateral.AMD{Client: s.Client(), Base: s.URL, Now: at}.Fetch(t.Context(), r, snp.Milan))...); err != nil {
		t.Fatal(err)
	}
	cache := httptest.NewServer(store.Handler())
	defer cache.Close()
	items, err := collateral.AMD{Client: cache.Client(), Base: cache.URL, Now: at}.Fetch(t.Context(), r, snp.Milan)
	if err != nil || len(items) != 3 {
		t.Fatal(len(items), err)
	}
	// Levels in another order, without leading zeroes.
	path := strings.TrimPrefix(snp.KDSURL(r, snp.Milan), collateral.AMDKDS)
	base, query, _ := strings.Cut(path, "?")
	var parts []string
	for p := range strings.SplitSeq(query, "&") {
		name, level, _ := strings.Cut(p, "=")
		parts = append([]string{name + "=" + strings.TrimLeft(level, "0")}, parts...)
	}
	if status, b := fetch(t, cache, base+"?"+strings.Join(parts, "&")); status != 200 || string(b) != string(k.Certificate) {
		t.Errorf("%d", status)
	}
	if status, _ := fetch(t, cache, base+"?blSPL=99"); status != 404 {
		t.Errorf("another level: %d", status)
	}
	_, chain := fetch(t, cache, "/vcek/v1/Milan/cert_chain")
	if block, _ := pem.Decode(chain); block == nil {
		t.Error("no chain")
	}
}
