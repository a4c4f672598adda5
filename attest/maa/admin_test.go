package maa_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
)

const permitAll = "version= 1.0; authorizationrules { => permit(); }; issuancerules {};"

// envelope is an unsigned JWS of a policy.
func envelope(text string) string { return jws(`{"alg":"none"}`, payload(text), nil) }

func payload(text string) string {
	return `{"AttestationPolicy":"` + url64([]byte(text)) + `"}`
}

func jws(header, payload string, sign func(input []byte) []byte) string {
	input := url64([]byte(header)) + "." + url64([]byte(payload))
	if sign == nil {
		return input + "."
	}
	return input + "." + url64(sign([]byte(input)))
}

// policySigner signs policies.
type policySigner struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert []byte
}

func newSigner(t testing.TB) policySigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "policy signer"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return policySigner{t, key, der}
}

func (s policySigner) sign(payload string) string {
	header := `{"alg":"ES256","x5c":["` + base64.StdEncoding.EncodeToString(s.cert) + `"]}`
	return jws(header, payload, func(input []byte) []byte {
		digest := sha256.Sum256(input)
		r, t, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
		if err != nil {
			s.t.Fatal(err)
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		t.FillBytes(out[32:])
		return out
	})
}

func (s policySigner) certificate() string {
	b, err := json.Marshal(map[string]any{"policyCertificate": map[string]any{"kty": "EC", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	w.create(maa.Settings{Name: "mine"})
	const path = "/azure/mine/policies/SgxEnclave"
	initial := w.token(http.MethodGet, path+version, "", nil)["x-ms-policy"]
	for who, status := range map[string]int{"": 401, "bob": 403, "stranger": 401} {
		code := map[int]string{401: "Unauthorized", 403: "Forbidden"}[status]
		w.refused(http.MethodPut, path+version, who, envelope(permitAll), status, code, "owner")
		w.refused(http.MethodPost, path+":reset"+version, who, envelope(permitAll), status, code, "owner")
		w.refused(http.MethodPut, "/policies/SgxEnclave"+version, who, envelope(permitAll), status, code, "owner")
	}
	w.refused(http.MethodPut, "/policies/SgxEnclave"+version, "alice", envelope(permitAll), 403, "Forbidden", "owner") // of the shared provider is nobody
	for body, text := range map[string]string{
		permitAll: "JWS", "": "JWS", envelope("version= 1.0; authorizationrules {"): "1:", jws(`{"alg":"none"}`, "{}", nil): "AttestationPolicy",
		envelope("version= 1.1; configurationrules { => issueproperty(type=\"mystery\", value=1); }; authorizationrules { => permit(); }; issuancerules {};"): "mystery",
	} {
		w.refused(http.MethodPut, path+version, "alice", body, 400, "InvalidParameter", text)
	}
	w.refused(http.MethodPut, "/azure/mine/policies/Other"+version, "alice", envelope(permitAll), 400, "InvalidParameter", "attestation type")
	if got := w.token(http.MethodGet, path+version, "", nil)["x-ms-policy"]; got != initial {
		t.Errorf("a policy that was refused is in force: %v", got)
	}

	set := envelope(permitAll)
	digest := sha256.Sum256([]byte(set))
	for _, body := range []string{set, `"` + set + `"`, " " + set + "\n"} {
		claims := w.token(http.MethodPut, path+version, "alice", body)
		if claims["x-ms-policy-result"] != "Updated" || claims["x-ms-policy-token-hash"] != url64(digest[:]) {
			t.Errorf("claims %v", claims)
		}
	}
	if got := w.token(http.MethodGet, path+version, "", nil)["x-ms-policy"]; got != set {
		t.Errorf("policy %v", got)
	}
	w.refused(http.MethodPost, path+":reset"+version, "alice", set, 400, "InvalidParameter", "payload")
	if got := w.token(http.MethodPost, path+":reset"+version, "alice", jws(`{"alg":"none"}`, "", nil)); got["x-ms-policy-result"] != "Removed" {
		t.Errorf("claims %v", got)
	}
	if got := w.token(http.MethodGet, path+version, "", nil)["x-ms-policy"]; got != initial {
		t.Errorf("policy after reset: %v", got)
	}
	// TPMs have no default policy.
	if got := w.token(http.MethodGet, "/azure/mine/policies/Tpm"+version, "", nil)["x-ms-policy"]; got != envelope("") {
		t.Errorf("policy of TPMs: %v", got)
	}
}

func TestIsolated(t *testing.T) {
	w := newWorld(t)
	first, second := newSigner(t), newSigner(t)
	w.create(maa.Settings{Name: "closed", Signers: [][]byte{first.cert}})
	w.create(maa.Settings{Name: "open"})
	const path = "/azure/closed/policies/SgxEnclave"
	w.refused(http.MethodPut, path+version, "alice", envelope(permitAll), 400, "InvalidParameter", "not signed")
	w.refused(http.MethodPut, path+version, "alice", second.sign(payload(permitAll)), 400, "InvalidParameter", "policy signers")
	w.refused(http.MethodPut, path+version, "bob", first.sign(payload(permitAll)), 403, "Forbidden", "owner") // a signature is not enough
	set := first.sign(payload(permitAll))
	if got := w.token(http.MethodPut, path+version, "alice", set); got["x-ms-policy-signer"] == nil {
		t.Errorf("claims %v", got)
	}
	w.refused(http.MethodPut, path+version, "alice", set[:len(set)-4]+"AAAA", 400, "InvalidParameter", "verify")
	w.refused(http.MethodPost, path+":reset"+version, "alice", jws(`{"alg":"none"}`, "", nil), 400, "InvalidParameter", "not signed")

	signers := func() int {
		keys, _ := w.token(http.MethodGet, "/azure/closed/certificates"+version, "", nil)["x-ms-policy-certificates"].(map[string]any)["keys"].([]any)
		return len(keys)
	}
	const add, remove = "/azure/closed/certificates:add", "/azure/closed/certificates:remove"
	w.refused(http.MethodPost, add+version, "alice", second.sign(second.certificate()), 400, "InvalidParameter", "policy signers")
	w.refused(http.MethodPost, add+version, "bob", first.sign(second.certificate()), 403, "Forbidden", "owner")
	w.refused(http.MethodPost, add+version, "alice", first.sign(`{"policyCertificate":{"kty":"EC","x5c":["AAAA"]}}`), 400, "InvalidParameter", "certificate")
	w.refused(http.MethodPost, add+version, "alice", first.sign(`{}`), 400, "InvalidParameter", "policyCertificate")
	w.refused(http.MethodPost, "/azure/open/certificates:add"+version, "alice", first.sign(second.certificate()), 400, "InvalidParameter", "isolated")
	for range 2 { // the second time changes nothing
		if got := w.token(http.MethodPost, add+version, "alice", first.sign(second.certificate())); got["x-ms-policycertificates-result"] != "IsPresent" || signers() != 2 {
			t.Errorf("claims %v", got)
		}
	}
	if got := w.token(http.MethodPost, remove+version, "alice", second.sign(first.certificate())); got["x-ms-policycertificates-result"] != "IsAbsent" || signers() != 1 {
		t.Errorf("claims %v", got)
	}
	w.refused(http.MethodPost, remove+version, "alice", second.sign(second.certificate()), 400, "InvalidParameter", "last")
	w.refused(http.MethodPut, path+version, "alice", set, 400, "InvalidParameter", "policy signers") // replayed, by a signer of old
	w.token(http.MethodPost, path+":reset"+version, "alice", second.sign(""))
}

// TestRotate: tokens of a key that was replaced verify until the last of them has
// expired, and no private half of it is kept.
func TestRotate(t *testing.T) {
	for _, alg := range []string{maa.ES256, maa.ES384, maa.RS256} {
		w := newWorld(t)
		i := w.create(maa.Settings{Name: "mine", Algorithm: alg})
		_, answer := w.do(http.MethodGet, "/azure/mine/policies/SgxEnclave"+version, "", nil)
		before := answer["token"].(string)
		again, err := w.service.Rotate(alice, "mine")
		if err != nil || len(again.Keys) != 2 || again.Keys[0] == i.Keys[0] || again.Keys[1] != i.Keys[0] {
			t.Fatalf("%+v, %v", again, err)
		}
		w.opened("/azure/mine", before)
		w.token(http.MethodGet, "/azure/mine/policies/SgxEnclave"+version, "", nil)
		w.now = w.now.Add(attest.MaxTokenLifetime)
		if set := w.keys("/azure/mine"); len(set.Keys) != 1 || set.Keys[0].KeyID != again.Keys[0] {
			t.Errorf("%s: keys a day later: %v", alg, set.Keys)
		}
		if again, err = w.service.Rotate(alice, "mine"); err != nil || len(again.Keys) != 2 {
			t.Errorf("%+v, %v", again, err)
		}
		private, err := x509.ParsePKCS8PrivateKey(privateIn(t, w.log.entries[1]))
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		if last := w.log.entries[len(w.log.entries)-1]; bytes.Contains(last, der) {
			t.Errorf("%s: the private half of a retired key is kept", alg)
		}
		_ = private.(crypto.Signer)
	}
}

// privateIn finds the PKCS #8 key in an entry.
func privateIn(t testing.TB, entry []byte) []byte {
	t.Helper()
	for i := range entry {
		for _, head := range [][]byte{{0x30, 0x81}, {0x30, 0x82}} {
			if !bytes.HasPrefix(entry[i:], head) {
				continue
			}
			n := 3 + int(entry[i+2])
			if head[1] == 0x82 {
				n = 4 + int(entry[i+2])<<8 + int(entry[i+3])
			}
			if i+n <= len(entry) {
				if _, err := x509.ParsePKCS8PrivateKey(entry[i : i+n]); err == nil {
					return entry[i : i+n]
				}
			}
		}
	}
	t.Fatal("no key in the entry")
	return nil
}

func TestProviders(t *testing.T) {
	w := newWorld(t)
	signer := newSigner(t)
	for name, s := range map[string]maa.Settings{
		"no name": {}, "capitals": {Name: "Mine"}, "a path": {Name: "a/b"}, "a hyphen": {Name: "-a"}, "long": {Name: string(bytes.Repeat([]byte{'a'}, 64))},
		"algorithm": {Name: "a", Algorithm: "HS256"}, "none": {Name: "a", Algorithm: "none"}, "issuer": {Name: "a", Issuer: "http://a"}, "query": {Name: "a", Issuer: "https://a?x"},
		"grace": {Name: "a", GraceDays: -1}, "long grace": {Name: "a", GraceDays: attest.MaxGraceDays + 1}, "signer": {Name: "a", Signers: [][]byte{{1}}},
		"signers": {Name: "a", Signers: bytes.Split(bytes.Repeat([]byte{'x', ','}, maa.MaxSigners+1), []byte{','})},
	} {
		if i, err := w.service.Create(alice, s); !errors.Is(err, maa.ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
	if _, err := w.service.Create(nil, maa.Settings{Name: "a"}); !errors.Is(err, maa.ErrNoIdentity) {
		t.Error(err)
	}
	made := w.create(maa.Settings{Name: "mine", Issuer: "https://attest.example/", Signers: [][]byte{signer.cert}})
	if made.Path != "/azure/mine" || made.Algorithm != maa.ES256 || made.Issuer != "https://attest.example" || !made.Isolated || made.Signers != 1 || len(made.Policies) != 5 {
		t.Errorf("%+v", made)
	}
	for _, name := range []string{"mine", maa.Shared} {
		if _, err := w.service.Create(bob, maa.Settings{Name: name}); !errors.Is(err, maa.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, try := range []func() error{
		func() error { _, err := w.service.Get(bob, "mine"); return err },
		func() error { _, err := w.service.Rotate(bob, "mine"); return err },
		func() error { return w.service.Delete(bob, "mine") },
		func() error { return w.service.Delete(alice, maa.Shared) },
		func() error { return w.service.Delete(alice, "none") },
	} {
		if err := try(); !errors.Is(err, maa.ErrNotFound) {
			t.Error(err)
		}
	}
	if list, err := w.service.List(bob); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := w.service.List(alice); err != nil || len(list) != 1 || list[0].Name != "mine" {
		t.Errorf("%v, %v", list, err)
	}
	_, metadata := w.do(http.MethodGet, "/azure/mine/.well-known/openid-configuration", "", nil)
	if metadata["issuer"] != "https://attest.example" || metadata["jwks_uri"] != "https://attest.example/certs" {
		t.Errorf("%v", metadata)
	}
	if err := w.service.Delete(alice, "mine"); err != nil {
		t.Fatal(err)
	}
	w.refused(http.MethodGet, "/azure/mine/certs", "", nil, 404, "NotFound", "")
}

// TestRestart: a service that starts from the log has the same providers, with
// the same keys and policies; what was deleted stays deleted.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"one", "two", "gone"} {
		w.create(maa.Settings{Name: name})
	}
	if err := w.service.Delete(alice, "gone"); err != nil {
		t.Fatal(err)
	}
	w.token(http.MethodPut, "/azure/one/policies/SgxEnclave"+version, "alice", envelope(permitAll))
	if _, err := w.service.Rotate(alice, "two"); err != nil {
		t.Fatal(err)
	}
	before, err := w.service.List(alice)
	if err != nil {
		t.Fatal(err)
	}
	_, answer := w.do(http.MethodGet, "/policies/SgxEnclave"+version, "", nil)
	entries := len(w.log.entries)
	w.service = w.start(w.log)
	after, err := w.service.List(alice)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(before)
	b, _ := json.Marshal(after)
	if !bytes.Equal(a, b) || len(w.log.entries) != entries {
		t.Errorf("before %s\nafter  %s, %d and %d entries", a, b, entries, len(w.log.entries))
	}
	w.opened("", answer["token"].(string)) // of the shared provider, whose key is the same
	if err := maa.New(maa.Config{}).Replay([]byte("nonsense")); err == nil {
		t.Error("nonsense is an entry")
	}
}

// TestLogFails: a change that was not kept is not made.
func TestLogFails(t *testing.T) {
	w := newWorld(t)
	before := w.create(maa.Settings{Name: "mine"})
	w.log.fail = errors.New("disk full")
	w.now = w.now.Add(time.Hour)
	for name, try := range map[string]func() error{
		"create": func() error { _, err := w.service.Create(alice, maa.Settings{Name: "other"}); return err },
		"rotate": func() error { _, err := w.service.Rotate(alice, "mine"); return err },
		"delete": func() error { return w.service.Delete(alice, "mine") },
	} {
		if err := try(); !errors.Is(err, w.log.fail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.refused(http.MethodPut, "/azure/mine/policies/SgxEnclave"+version, "alice", envelope(permitAll), 500, "InternalError", "log")
	list, err := w.service.List(alice)
	if err != nil || len(list) != 1 || list[0].Keys[0] != before.Keys[0] || list[0].Policies["SgxEnclave"] != before.Policies["SgxEnclave"] {
		t.Errorf("%+v, %v", list, err)
	}
}
