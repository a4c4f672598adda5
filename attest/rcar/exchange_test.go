package rcar_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/rcar"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"pgregory.net/rapid"
)

// The whole exchange of a guest of SEV-SNP, on made processors of AMD, in every
// version of the protocol and of the report.
func TestExchangeSNP(t *testing.T) {
	for _, product := range []snp.Product{snp.Milan, snp.Genoa, snp.Turin} {
		m := snptest.New(t, product)
		key := m.VCEK(t, snptest.KeyOptions{})
		for _, version := range []string{"0.1.1", "0.2.0", "0.4.0"} {
			t.Run(string(product)+" "+version, func(t *testing.T) {
				b := newBroker(t, tee.Input{Roots: m.Roots(), At: at}, nil)
				g := newGuest(t, version, "snp")
				g.auth(t, b)
				report := key.Report()
				report.ReportData = g.reportData(t)
				ev := key.Evidence(report)
				res := g.wantToken(t, b, g.attest(t, b, g.attestation(t, snpEvidence(ev.Data, ev.Certificates...))))
				if want := attest.DigestEvidence(ev); res.TEE != tee.SNP || res.EvidenceDigest != want {
					t.Errorf("%s, evidence %x, want the report as it was signed: %x", res.TEE, res.EvidenceDigest, want)
				}
			})
		}
	}
}

// Over real HTTP, with a client that keeps cookies as guests do.
func TestExchangeTDX(t *testing.T) {
	intel := dcaptest.New(t)
	platform := intel.Platform(t, dcaptest.PlatformOptions{})
	b := newBroker(t, intel.Input(t, dcaptest.CollateralOptions{TDX: true}), nil)
	server := httptest.NewServer(b.handler)
	defer server.Close()
	client := server.Client()
	client.Jar, _ = cookiejar.New(nil)
	post := func(path string, body any) *httptest.ResponseRecorder {
		t.Helper()
		r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, bytes.NewReader(must[[]byte](t)(json.Marshal(body)))))
		resp := must[*http.Response](t)(client.Do(r))
		defer resp.Body.Close()
		w := httptest.NewRecorder()
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Body.ReadFrom(resp.Body)
		return w
	}

	g := newGuest(t, "0.4.0", "tdx")
	var challenge map[string]string
	w := post(rcar.PathAuth, map[string]any{"version": g.version, "tee": g.tee, "extra-params": ""})
	if err := json.Unmarshal(w.Body.Bytes(), &challenge); err != nil {
		t.Fatal(err)
	}
	g.nonce = challenge["nonce"]
	body := dcaptest.TDBody(dcap.TD10Body)
	reportData := g.reportData(t)
	copy(body[520:], reportData[:])
	quote := platform.Quote(t, dcaptest.QuoteOptions{Version: 4, Type: dcap.TD10Body, Body: body})
	w = post(rcar.PathAttest, g.attestation(t, map[string]any{"quote": base64.StdEncoding.EncodeToString(quote), "cc_eventlog": nil}))
	if res := g.wantToken(t, b, w); res.TEE != tee.TDX || res.Claims["report_data"] == "" {
		t.Errorf("result %+v", res)
	}
	if w := post(rcar.PathAttest, map[string]any{}); w.Code != http.StatusUnauthorized {
		t.Errorf("the session was good twice: %d", w.Code)
	}
}

func TestExchangeSGX(t *testing.T) {
	intel := dcaptest.New(t)
	platform := intel.Platform(t, dcaptest.PlatformOptions{})
	b := newBroker(t, intel.Input(t, dcaptest.CollateralOptions{}), nil)
	g := newGuest(t, "0.4.0", "sgx")
	g.auth(t, b)
	body := dcaptest.EnclaveBody()
	reportData := g.reportData(t)
	copy(body[320:], reportData[:])
	quote := platform.Quote(t, dcaptest.QuoteOptions{Version: 3, Body: body})
	res := g.wantToken(t, b, g.attest(t, b, g.attestation(t, map[string]any{"quote": base64.StdEncoding.EncodeToString(quote)})))
	if res.TEE != tee.SGX {
		t.Errorf("result %+v", res)
	}
}

// What reaches the verifier, byte for byte.
func TestEvidenceReachesTheVerifier(t *testing.T) {
	real, err := os.ReadFile("../../tee/snp/testdata/milan-v3-report.bin")
	if err != nil {
		t.Fatal(err)
	}
	v5 := bytes.Clone(real)
	v5[0], v5[0x1F8], v5[0x207] = 5, 1, 2
	v2 := bytes.Clone(real)
	v2[0], v2[0x188], v2[0x189], v2[0x18A] = 2, 0, 0, 0
	standard := base64.StdEncoding.EncodeToString
	azure := `{"version": 2, "tpm_quote": {"signature": "00", "message": "00", "pcrs": []}, "hcl_report": "AAAA==", "vcek": "AAAA"}`
	cases := []struct {
		name, tee, version string
		evidence           any
		want               tee.Evidence
	}{
		{"a real report", "snp", "0.4.0", snpEvidence(real, []byte{9, 8}), tee.Evidence{Kind: tee.SNP, Data: real, Certificates: [][]byte{{9, 8}}}},
		{"a report of version 5", "snp", "0.4.0", snpEvidence(v5), tee.Evidence{Kind: tee.SNP, Data: v5}},
		{"a report of version 2", "snp", "0.4.0", map[string]any{"attestation_report": sevJSON(v2), "cert_chain": nil}, tee.Evidence{Kind: tee.SNP, Data: v2}},
		{"quote and log", "tdx", "0.4.0", map[string]any{"quote": standard([]byte("quote")), "cc_eventlog": standard([]byte("log"))}, tee.Evidence{Kind: tee.TDX, Data: []byte("quote"), EventLog: []byte("log")}},
		{"quote and the agent's log", "tdx", "0.2.0", map[string]any{"quote": standard([]byte("quote")), "cc_eventlog": nil, "aa_eventlog": "x"}, tee.Evidence{Kind: tee.TDX, Data: []byte("quote")}},
		{"enclave", "sgx", "0.2.0", map[string]any{"quote": standard([]byte("quote"))}, tee.Evidence{Kind: tee.SGX, Data: []byte("quote")}},
		{"Azure on SNP", "azsnpvtpm", "0.4.0", json.RawMessage(azure), tee.Evidence{Kind: tee.AzureSNP, Data: []byte(azure)}},
		{"Azure on TDX", "az-tdx-vtpm", "0.2.0", json.RawMessage(azure), tee.Evidence{Kind: tee.AzureTDX, Data: []byte(azure)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got tee.Evidence
			var bound [64]byte
			b := newBroker(t, tee.Input{}, func(cfg *rcar.Config) {
				cfg.Verify = func(_ context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
					got, bound = ev, reportData
					claimed := reportData[:]
					if strings.HasPrefix(c.tee, "az") {
						claimed = claimed[:48] // what a guest has its vTPM quote
					}
					return &attest.Verified{Claims: tee.Claims{TEE: ev.Kind, ReportData: claimed, TCB: tee.TCBUpToDate}, At: at}, nil
				}
			})
			g := newGuest(t, c.version, c.tee)
			g.auth(t, b)
			body := must[[]byte](t)(json.Marshal(g.attestation(t, c.evidence)))
			w := b.post(t, rcar.PathAttest, string(body), g.cookie)
			g.wantToken(t, b, w)
			if strings.HasPrefix(c.tee, "az") {
				c.want.Data = must[[]byte](t)(json.Marshal(c.evidence)) // compacted on the way
			}
			if attest.DigestEvidence(got) != attest.DigestEvidence(c.want) {
				t.Errorf("got %s, %d bytes, certificates %v, log %q", got.Kind, len(got.Data), got.Certificates, got.EventLog)
			}
			if bound != g.reportData(t) {
				t.Errorf("bound to %x, want %x", bound, g.reportData(t))
			}
		})
	}
}

// Whatever a report says, its bytes come back from the JSON of its structure.
func TestReportIsRebuilt(t *testing.T) {
	var got tee.Evidence
	b := newBroker(t, tee.Input{}, func(cfg *rcar.Config) {
		cfg.Verify = func(_ context.Context, ev tee.Evidence, _ [64]byte) (*attest.Verified, error) {
			got = ev
			return nil, tee.Refuse(tee.SNP, tee.CodeSignature, "x", "", "", "")
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		report := rapid.SliceOfN(rapid.Byte(), snp.ReportSize, snp.ReportSize).Draw(rt, "report")
		version := rapid.SampledFrom([]byte{2, 3, 5}).Draw(rt, "version")
		copy(report, []byte{version, 0, 0, 0})
		zero := func(from, to int) { clear(report[from:to]) }
		zero(0x4C, 0x50)
		if version == 2 {
			zero(0x188, 0x18B)
		}
		turin := report[0x188] == 0x1A
		for _, at := range []int{0x38, 0x180, 0x1E0, 0x1F0} {
			if turin {
				zero(at+4, at+7)
			} else {
				zero(at+2, at+6)
			}
		}
		zero(0x18B, 0x1A0)
		zero(0x1EB, 0x1EC)
		zero(0x1EF, 0x1F0)
		if version == 5 {
			zero(0x208, 0x2A0)
		} else {
			zero(0x1F8, 0x2A0)
		}
		zero(0x330, snp.ReportSize)
		g := newGuest(t, "0.4.0", "snp")
		g.auth(t, b)
		wantRefusal(t, g.attest(t, b, g.attestation(t, snpEvidence(report))), 401, "AttestationError", "signature")
		if !bytes.Equal(got.Data, report) {
			rt.Fatalf("got %x\nwant %x", got.Data, report)
		}
	})
}

// A nonce is good once, and for the lifetime.
func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verified := 0
		b := newBroker(t, tee.Input{}, func(cfg *rcar.Config) {
			cfg.Lifetime, cfg.MaxSessions = time.Minute, 2
			cfg.Verify = func(context.Context, tee.Evidence, [64]byte) (*attest.Verified, error) {
				verified++
				return nil, tee.Refuse(tee.SGX, tee.CodeSignature, "x", "", "", "")
			}
		})
		evidence := map[string]any{"quote": "AAAA"}
		ask := func() *guest {
			g := newGuest(t, "0.4.0", "sgx")
			g.auth(t, b)
			return g
		}
		again := "no such session"

		late := ask()
		time.Sleep(time.Minute)
		wantRefusal(t, late.attest(t, b, late.attestation(t, evidence)), 401, "AttestationError", again)
		if verified != 0 {
			t.Error("evidence of an expired session was looked at")
		}

		inTime := ask()
		time.Sleep(time.Minute - 1)
		wantRefusal(t, inTime.attest(t, b, inTime.attestation(t, evidence)), 401, "AttestationError", "does not verify: signature")
		wantRefusal(t, inTime.attest(t, b, inTime.attestation(t, evidence)), 401, "AttestationError", again)

		malformed := ask()
		wantRefusal(t, malformed.attest(t, b, "x"), 401, "AttestationError", "want an Attestation")
		wantRefusal(t, malformed.attest(t, b, malformed.attestation(t, evidence)), 401, "AttestationError", again)

		first, second, third := ask(), ask(), ask()
		wantRefusal(t, first.attest(t, b, first.attestation(t, evidence)), 401, "AttestationError", again)
		wantRefusal(t, second.attest(t, b, second.attestation(t, evidence)), 401, "AttestationError", "does not verify")
		wantRefusal(t, third.attest(t, b, third.attestation(t, evidence)), 401, "AttestationError", "does not verify")
		if verified != 3 {
			t.Errorf("verified %d times, want 3", verified)
		}
	})
}

// Of many guests at once each gets its token, and of many that share a session
// exactly one.
func TestSessionsTogether(t *testing.T) {
	b := newBroker(t, tee.Input{}, func(cfg *rcar.Config) {
		cfg.Verify = func(_ context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
			return &attest.Verified{Claims: tee.Claims{TEE: ev.Kind, ReportData: reportData[:], TCB: tee.TCBUpToDate}, At: at}, nil
		}
	})
	var tokens, nonces atomic.Int64
	var seen sync.Map
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			g := newGuest(t, "0.4.0", "sgx")
			g.auth(t, b)
			if _, twice := seen.LoadOrStore(g.nonce, true); !twice {
				nonces.Add(1)
			}
			body := g.attestation(t, map[string]any{"quote": "AAAA"})
			var thieves sync.WaitGroup
			for range 4 {
				thieves.Go(func() {
					if g.attest(t, b, body).Code == http.StatusOK {
						tokens.Add(1)
					}
				})
			}
			thieves.Wait()
		})
	}
	group.Wait()
	if tokens.Load() != 16 || nonces.Load() != 16 {
		t.Errorf("%d tokens and %d nonces, want 16 of each", tokens.Load(), nonces.Load())
	}
}

func TestNewRefuses(t *testing.T) {
	verify := func(context.Context, tee.Evidence, [64]byte) (*attest.Verified, error) { return nil, nil }
	issue := func(context.Context, *attest.Verified, *ecdsa.PublicKey, []byte) (string, error) { return "", nil }
	for name, cfg := range map[string]rcar.Config{
		"nothing":           {},
		"no verifier":       {Issue: issue, Now: time.Now},
		"no issuer":         {Verify: verify, Now: time.Now},
		"no clock":          {Verify: verify, Issue: issue},
		"lifetime":          {Verify: verify, Issue: issue, Now: time.Now, Lifetime: rcar.MaxLifetime + 1},
		"negative lifetime": {Verify: verify, Issue: issue, Now: time.Now, Lifetime: -1},
		"negative sessions": {Verify: verify, Issue: issue, Now: time.Now, MaxSessions: -1},
	} {
		if _, err := rcar.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w := httptest.NewRecorder()
	(&rcar.Handler{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, rcar.PathAuth, http.NoBody))
	wantRefusal(t, w, 401, "AttestationError", "not configured")
}
