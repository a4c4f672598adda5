package maa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/cloister-cc/cloister/tee/tdx"
)

const version = "?api-version=2025-06-01"

var (
	alice = bytes.Repeat([]byte{'a'}, 32)
	bob   = bytes.Repeat([]byte{'b'}, 32)
)

// memoryLog keeps entries, or fails.
type memoryLog struct {
	mu      sync.Mutex
	entries [][]byte
	fail    error
}

func (l *memoryLog) Append(entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.entries = append(l.entries, bytes.Clone(entry))
	return nil
}

// world is a service, an Intel and an AMD of the test's own, and what the service
// knows of them.
type world struct {
	testing.TB
	service *maa.Service
	log     *memoryLog
	intel   *dcaptest.Intel
	amd     *snptest.Manufacturer
	// collateral is what the verifier gets for a kind of TEE.
	collateral map[tee.Kind]tee.Input
	now        time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, log: &memoryLog{}, intel: dcaptest.New(t), amd: snptest.New(t, snp.Milan), now: dcaptest.At}
	amd := w.amd.Input()
	amd.Endorsements.CRLs = [][]byte{w.amd.ARK.CRL(t, snptest.Validity{From: w.now.AddDate(0, -1, 0), To: w.now.AddDate(0, 1, 0)})}
	amd.Endorsements.Certificates = [][]byte{w.amd.ASK.Certificate.Raw, w.amd.ARK.Certificate.Raw}
	w.collateral = map[tee.Kind]tee.Input{
		tee.SGX: w.intel.Input(t, dcaptest.CollateralOptions{}), tee.TDX: w.intel.Input(t, dcaptest.CollateralOptions{TDX: true}), tee.SNP: amd,
	}
	w.service = w.start(w.log)
	return w
}

// config is that of a service for all the TEEs, with the world's collateral.
func (w *world) config() maa.Config {
	return maa.Config{
		Verifier: attest.NewVerifier(sgx.New(), tdx.New(), snp.New(), azure.NewSNP(snp.New()), azure.NewTDX(tdx.New())),
		Input: func(ev tee.Evidence) tee.Input {
			if hardware, ok := map[tee.Kind]tee.Kind{tee.AzureSNP: tee.SNP, tee.AzureTDX: tee.TDX}[ev.Kind]; ok {
				return w.collateral[hardware]
			}
			return w.collateral[ev.Kind]
		},
		Caller: func(r *http.Request) []byte {
			switch r.Header.Get("Authorization") {
			case "Bearer alice":
				return alice
			case "Bearer bob":
				return bob
			}
			return nil
		},
		Now: func() time.Time { return w.now },
	}
}

// start starts a service from a log, as a node does when it starts.
func (w *world) start(log *memoryLog) *maa.Service {
	w.Helper()
	return w.startWith(w.config(), log)
}

func (w *world) startWith(c maa.Config, log *memoryLog) *maa.Service {
	w.Helper()
	s := maa.New(c)
	for _, e := range log.entries {
		if err := s.Replay(e); err != nil {
			w.Fatal(err)
		}
	}
	if err := s.Begin(log); err != nil {
		w.Fatal(err)
	}
	return s
}

// create makes a provider of alice's.
func (w *world) create(s maa.Settings) maa.Info {
	w.Helper()
	i, err := w.service.Create(alice, s)
	if err != nil {
		w.Fatal(err)
	}
	return i
}

// do makes a request; who is alice, bob or nobody.
func (w *world) do(method, path, who string, body any) (int, map[string]any) {
	w.Helper()
	var b []byte
	switch v := body.(type) {
	case nil:
	case string:
		b = []byte(v)
	default:
		var err error
		if b, err = json.Marshal(v); err != nil {
			w.Fatal(err)
		}
	}
	r := httptest.NewRequestWithContext(w.Context(), method, "https://maa.example:7443"+path, bytes.NewReader(b))
	if who != "" {
		r.Header.Set("Authorization", "Bearer "+who)
	}
	rec := httptest.NewRecorder()
	w.service.ServeHTTP(rec, r)
	var answer map[string]any
	raw, err := io.ReadAll(rec.Body)
	if err != nil || json.Unmarshal(raw, &answer) != nil {
		w.Fatalf("%s %s: %d, not JSON: %s", method, path, rec.Code, raw)
	}
	if rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("x-ms-request-id") == "" {
		w.Errorf("%s %s: headers %v", method, path, rec.Header())
	}
	if rec.Code == http.StatusServiceUnavailable && rec.Header().Get("Retry-After") == "" {
		w.Errorf("%s %s: 503 without Retry-After", method, path)
	}
	return rec.Code, answer
}

// refused wants an error of the service.
func (w *world) refused(method, path, who string, body any, status int, code, text string) {
	w.Helper()
	got, answer := w.do(method, path, who, body)
	e, _ := answer["error"].(map[string]any)
	message, _ := e["message"].(string)
	if got != status || e["code"] != code || !bytes.Contains([]byte(message), []byte(text)) {
		w.Errorf("%s %s: %d %v, want %d %s with %q", method, path, got, answer, status, code, text)
	}
}

// token makes a request that must give a token, and returns the token's claims
// after another library has verified it with the provider's key set.
func (w *world) token(method, path, who string, body any) map[string]any {
	w.Helper()
	status, answer := w.do(method, path, who, body)
	text, _ := answer["token"].(string)
	if status != http.StatusOK || text == "" {
		w.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return w.opened(prefixOf(path), text)
}

// prefixOf is the path of the provider.
func prefixOf(path string) string {
	if bytes.HasPrefix([]byte(path), []byte(maa.Prefix)) {
		rest := path[len(maa.Prefix):]
		return maa.Prefix + rest[:bytes.IndexByte([]byte(rest), '/')]
	}
	return ""
}

func (w *world) opened(prefix, text string) map[string]any {
	w.Helper()
	jws, err := jose.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256})
	if err != nil {
		w.Fatal(err)
	}
	payload, err := jws.Verify(w.keys(prefix))
	if err != nil {
		w.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		w.Fatal(err)
	}
	if claims["iss"] != "https://maa.example:7443"+prefix || claims["x-ms-ver"] != "1.0" || len(claims["jti"].(string)) != 64 {
		w.Errorf("claims %v", claims)
	}
	return claims
}

// keys are the provider's published keys, read by another library.
func (w *world) keys(prefix string) *jose.JSONWebKeySet {
	w.Helper()
	_, answer := w.do(http.MethodGet, prefix+"/certs", "", nil)
	b, err := json.Marshal(answer)
	var set jose.JSONWebKeySet
	if err = errors.Join(err, json.Unmarshal(b, &set)); err != nil {
		w.Fatal(err)
	}
	for _, k := range set.Keys {
		if !k.Valid() || !k.IsPublic() || len(k.Certificates) != 1 {
			w.Errorf("key %v", k)
		}
	}
	return &set
}

func url64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// data is runtime or launch data of a request.
func data(typ, text string) map[string]any {
	return map[string]any{"data": url64([]byte(text)), "dataType": typ}
}

// bound is a report of an enclave or TD that vouches for data.
func bound(body []byte, at int, text string) []byte {
	digest := sha256.Sum256([]byte(text))
	copy(body[at:], digest[:])
	copy(body[at+32:], make([]byte, 32))
	return body
}

// quote is an SGX quote that vouches for data; change changes the enclave.
func (w *world) quote(text string, change func(body []byte)) tee.Evidence {
	w.Helper()
	body := bound(dcaptest.EnclaveBody(), 320, text)
	if change != nil {
		change(body)
	}
	return w.intel.Platform(w, dcaptest.PlatformOptions{}).Evidence(w, dcaptest.QuoteOptions{Body: body})
}

func (w *world) tdQuote(text string, change func(body []byte)) tee.Evidence {
	w.Helper()
	body := bound(dcaptest.TDBody(dcap.TD10Body), 520, text)
	if change != nil {
		change(body)
	}
	return w.intel.Platform(w, dcaptest.PlatformOptions{}).Evidence(w, dcaptest.QuoteOptions{Type: dcap.TD10Body, Body: body})
}
