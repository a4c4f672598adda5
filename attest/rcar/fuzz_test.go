package rcar_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/rcar"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// FuzzHandler sends any two bodies, the second in the session of a good first.
// NONCE in it stands for the session's nonce, without which nothing is read.
func FuzzHandler(f *testing.F) {
	m := snptest.New(f, snp.Genoa)
	key := m.VCEK(f, snptest.KeyOptions{})
	g := newGuest(f, "0.4.0", "snp")
	g.nonce = "NONCE"
	ev := key.Evidence(key.Report())
	for i, tee := range []string{"snp", "tdx", "sgx", "azsnpvtpm", "snp"} {
		evidence := []any{snpEvidence(ev.Data), map[string]any{"quote": "AAAA", "cc_eventlog": "AAAA"}, map[string]any{"quote": "AAAA"}, map[string]any{"hcl_report": "AAAA"}, nil}[i]
		f.Add(tee, `{"version":"0.4.0","tee":"tdx","extra-params":""}`, string(must[[]byte](f)(json.Marshal(g.attestation(f, evidence)))))
	}
	b := newBroker(f, tee.Input{Roots: m.Roots(), At: at}, nil)
	answered := func(t *testing.T, w *httptest.ResponseRecorder) {
		var body map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || (w.Code != http.StatusOK && w.Code != http.StatusUnauthorized) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	f.Fuzz(func(t *testing.T, name, request, body string) {
		answered(t, b.post(t, rcar.PathAuth, request))
		quoted, _ := json.Marshal(name)
		w := b.post(t, rcar.PathAuth, `{"version":"0.4.0","tee":`+string(quoted)+`,"extra-params":""}`)
		answered(t, w)
		if w.Code != http.StatusOK {
			return
		}
		var challenge map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &challenge); err != nil {
			t.Fatal(err)
		}
		w = b.post(t, rcar.PathAttest, strings.ReplaceAll(body, "NONCE", challenge["nonce"]), w.Result().Cookies()...)
		answered(t, w)
		if w.Code == http.StatusOK {
			t.Fatalf("a token for evidence over no nonce: %s", w.Body)
		}
	})
}
