package maa_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

// BenchmarkAttest is a call without HTTP: what package maa and the verifier cost.
func BenchmarkAttest(b *testing.B) {
	w := newWorld(b)
	body, err := json.Marshal(map[string]any{"quote": url64(w.quote("d", nil).Data), "runtimeData": data("Binary", "d")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "https://localhost/attest/SgxEnclave"+version, bytes.NewReader(body))
		rec := httptest.NewRecorder()
		w.service.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Body)
		}
	}
}

// BenchmarkHTTPS is a call over HTTPS, for each TEE that the face takes, evidence
// made under test roots with all its collateral. calls/CPU-s is of the CPU time of
// both ends, so a service alone answers more; a node has the hops around it, which
// `go run ./bench -run '^attest'` measures for the TEEs of which there is recorded
// collateral.
func BenchmarkHTTPS(b *testing.B) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		b.Run(curve.Params().Name, func(b *testing.B) {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			digest := make([]byte, 32)
			sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
			if err != nil {
				b.Fatal(err)
			}
			perCPU(b, func() {
				if !ecdsa.VerifyASN1(&key.PublicKey, digest, sig) {
					b.Error("does not verify")
				}
			})
		})
	}
	w := newWorld(b)
	for _, typ := range []string{"SgxEnclave", "TdxVm", "SevSnpVm"} {
		b.Run(typ, func(b *testing.B) {
			body := map[string]any{"quote": url64(w.quote("d", nil).Data), "runtimeData": data("Binary", "d")}
			switch typ {
			case "TdxVm":
				body = map[string]any{"quote": url64(w.tdQuote(runtimeJSON, nil).Data), "runtimeData": data("JSON", runtimeJSON)}
			case "SevSnpVm":
				body = w.snpRequest(runtimeJSON)
			}
			encoded, err := json.Marshal(body)
			if err != nil {
				b.Fatal(err)
			}
			server := httptest.NewTLSServer(w.service)
			defer server.Close()
			c := server.Client()
			post := func() {
				resp, err := c.Post(server.URL+"/attest/"+typ+version, "application/json", bytes.NewReader(encoded))
				if err != nil {
					b.Error(err)
					return
				}
				defer func() { _ = resp.Body.Close() }()
				if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("%s, %v", text, err)
				}
			}
			post() // connects, and fills the caches
			perCPU(b, post)
		})
	}
}

func perCPU(b *testing.B, call func()) {
	b.Helper()
	before, n := cpuTime(b), 0
	for b.Loop() {
		call()
		n++
	}
	b.ReportMetric(float64(n)/(cpuTime(b)-before), "calls/CPU-s")
}

// cpuTime is how many seconds this process has computed.
func cpuTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
