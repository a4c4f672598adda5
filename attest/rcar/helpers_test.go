package rcar_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/rcar"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tdx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is the time of everything: certificates of the made platforms hold then.
var at = dcaptest.At

var policyDigest = [32]byte{'p', 'o', 'l', 'i', 'c', 'y'}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// broker is a service with a verifier of hardware and an issuer of tokens.
type broker struct {
	handler *rcar.Handler
	issuer  *attest.Issuer
}

func newBroker(t testing.TB, in tee.Input, change func(*rcar.Config)) broker {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	b := broker{issuer: must[*attest.Issuer](t)(attest.NewIssuer(attest.IssuerConfig{Name: "https://broker.example", Key: key, Now: func() time.Time { return at }}))}
	verifier := attest.NewVerifier(snp.New(), tdx.New(), sgx.New())
	cfg := rcar.Config{
		Verify: func(_ context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
			return verifier.Verify(ev, in, rcar.Binding(ev.Kind, reportData))
		},
		Issue: func(_ context.Context, v *attest.Verified, confirm *ecdsa.PublicKey, nonce []byte) (string, error) {
			return b.issuer.Issue(v, policyDigest, attest.IssueOptions{Confirm: confirm, Nonce: nonce})
		},
		Now: time.Now,
	}
	if change != nil {
		change(&cfg)
	}
	b.handler = must[*rcar.Handler](t)(rcar.New(cfg))
	return b
}

func (b broker) post(t testing.TB, path, body string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// guest is the software in a guest, as far as the protocol goes.
type guest struct {
	version, tee string
	key          *ecdsa.PrivateKey
	cookie       *http.Cookie
	nonce        string
}

func newGuest(t testing.TB, version, name string) *guest {
	t.Helper()
	return &guest{version: version, tee: name, key: must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

// auth asks for a challenge.
func (g *guest) auth(t testing.TB, b broker) {
	t.Helper()
	w := b.post(t, rcar.PathAuth, `{"version":"`+g.version+`","tee":"`+g.tee+`","extra-params":{"supported-hash-algorithms":["sha256","sha384","sha512","sm3"]}}`)
	var challenge map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &challenge); err != nil || w.Code != http.StatusOK {
		t.Fatalf("auth: %d %s", w.Code, w.Body)
	}
	extra, ok := challenge["extra-params"]
	if len(challenge) != 2 || !ok || extra != "" {
		t.Errorf("challenge %v", challenge)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 || cookies[0].Name != "kbs-session-id" || !cookies[0].HttpOnly {
		t.Fatalf("cookies %v", cookies)
	}
	g.cookie, g.nonce = cookies[0], challenge["nonce"]
}

func (g *guest) jwk(t testing.TB) map[string]any {
	t.Helper()
	point := must[[]byte](t)(g.key.PublicKey.Bytes())
	size := len(point) / 2
	return map[string]any{
		"kty": "EC", "crv": g.key.Curve.Params().Name, "alg": "ECDH-ES+A256KW",
		"x": base64.RawURLEncoding.EncodeToString(point[1 : 1+size]), "y": base64.RawURLEncoding.EncodeToString(point[1+size:]),
	}
}

// reportData is worked out in another way than by the package: encoding/json
// sorts members, and nothing in these texts is written differently by RFC 8785.
func (g *guest) reportData(t testing.TB) (out [64]byte) {
	t.Helper()
	runtime := map[string]any{"nonce": g.nonce, "tee-pubkey": g.jwk(t)}
	if g.version == "0.4.0" {
		runtime["additional-evidence"] = ""
	}
	d := sha512.Sum384(must[[]byte](t)(json.Marshal(runtime)))
	copy(out[:], d[:])
	return out
}

// attestation wraps evidence as the guest's version does.
func (g *guest) attestation(t testing.TB, evidence any) map[string]any {
	t.Helper()
	if g.version != "0.4.0" {
		return map[string]any{"tee-pubkey": g.jwk(t), "tee-evidence": evidence}
	}
	return map[string]any{
		"init-data":    nil,
		"runtime-data": map[string]any{"nonce": g.nonce, "tee-pubkey": g.jwk(t)},
		"tee-evidence": map[string]any{"primary_evidence": evidence, "additional_evidence": ""},
	}
}

func (g *guest) attest(t testing.TB, b broker, body any) *httptest.ResponseRecorder {
	t.Helper()
	return b.post(t, rcar.PathAttest, string(must[[]byte](t)(json.Marshal(body))), g.cookie)
}

// wantToken verifies the token of an answer as a relying party would that the
// guest has shown its key to.
func (g *guest) wantToken(t testing.TB, b broker, w *httptest.ResponseRecorder) *attest.Result {
	t.Helper()
	var answer map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || len(answer) != 1 {
		t.Fatalf("attest: %d %s", w.Code, w.Body)
	}
	verifier := attest.TokenVerifier{
		Keys: b.issuer.JWKS(), Issuer: b.issuer.Name(), AllowNoAudience: true, Policies: [][32]byte{policyDigest},
		Confirm: &g.key.PublicKey, Nonce: must[[]byte](t)(base64.StdEncoding.DecodeString(g.nonce)), AllowWarning: true,
	}
	return must[*attest.Result](t)(verifier.Verify(answer["token"], at))
}

// wantRefusal checks an answer's shape, and what it says.
func wantRefusal(t testing.TB, w *httptest.ResponseRecorder, status int, problem, detail string) {
	t.Helper()
	var answer map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || len(answer) != 2 {
		t.Fatalf("not an error of the protocol: %d %s", w.Code, w.Body)
	}
	if w.Code != status || answer["type"] != "https://github.com/confidential-containers/kbs/errors/"+problem || !strings.Contains(answer["detail"], detail) {
		t.Errorf("got %d %v, want %d %s, %q", w.Code, answer, status, problem, detail)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", w.Header())
	}
}

// sevJSON writes a report as the Rust crate sev 7.1 does.
func sevJSON(b []byte) map[string]any {
	le := binary.LittleEndian
	version := le.Uint32(b)
	turin := version >= 3 && b[0x188] == 0x1A
	numbers := func(from, size int) []int {
		out := make([]int, size)
		for i := range out {
			out[i] = int(b[from+i])
		}
		return out
	}
	tcb := func(at int) map[string]any {
		if turin {
			return map[string]any{"fmc": b[at], "bootloader": b[at+1], "tee": b[at+2], "snp": b[at+3], "microcode": b[at+7]}
		}
		return map[string]any{"fmc": nil, "bootloader": b[at], "tee": b[at+1], "snp": b[at+6], "microcode": b[at+7]}
	}
	firmware := func(at int) map[string]any {
		return map[string]any{"build": b[at], "minor": b[at+1], "major": b[at+2]}
	}
	m := map[string]any{
		"version": version, "guest_svn": le.Uint32(b[4:]), "policy": le.Uint64(b[8:]), "family_id": numbers(0x10, 16), "image_id": numbers(0x20, 16),
		"vmpl": le.Uint32(b[0x30:]), "sig_algo": le.Uint32(b[0x34:]), "current_tcb": tcb(0x38), "plat_info": le.Uint64(b[0x40:]), "key_info": le.Uint32(b[0x48:]),
		"report_data": numbers(0x50, 64), "measurement": numbers(0x90, 48), "host_data": numbers(0xC0, 32), "id_key_digest": numbers(0xE0, 48),
		"author_key_digest": numbers(0x110, 48), "report_id": numbers(0x140, 32), "report_id_ma": numbers(0x160, 32), "reported_tcb": tcb(0x180),
		"cpuid_fam_id": nil, "cpuid_mod_id": nil, "cpuid_step": nil, "chip_id": numbers(0x1A0, 64), "committed_tcb": tcb(0x1E0),
		"current": firmware(0x1E8), "committed": firmware(0x1EC), "launch_tcb": tcb(0x1F0), "launch_mit_vector": nil, "current_mit_vector": nil,
		"signature": map[string]any{"r": numbers(0x2A0, 72), "s": numbers(0x2E8, 72)},
	}
	if version >= 3 {
		m["cpuid_fam_id"], m["cpuid_mod_id"], m["cpuid_step"] = b[0x188], b[0x189], b[0x18A]
	}
	if version >= 5 {
		m["launch_mit_vector"], m["current_mit_vector"] = le.Uint64(b[0x1F8:]), le.Uint64(b[0x200:])
	}
	return m
}

func snpEvidence(report []byte, certificates ...[]byte) map[string]any {
	chain := []any{map[string]any{"cert_type": map[string]any{"OTHER": "01234567-89ab-cdef-0123-456789abcdef"}, "data": []int{1, 2, 3}}}
	for _, c := range certificates {
		data := make([]int, len(c))
		for i, n := range c {
			data[i] = int(n)
		}
		chain = append(chain, map[string]any{"cert_type": "VCEK", "data": data})
	}
	return map[string]any{"attestation_report": sevJSON(report), "cert_chain": chain}
}
