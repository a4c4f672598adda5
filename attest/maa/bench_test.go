package maa_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
