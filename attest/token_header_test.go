package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
)

// world is an issuer, its key and a good token.
type world struct {
	key    *ecdsa.PrivateKey
	kid    string
	issuer *attest.Issuer
	verify attest.TokenVerifier
	token  string
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{key: newKey(t, elliptic.P256())}
	w.issuer = newIssuer(t, func(c *attest.IssuerConfig) { c.Key = w.key })
	w.kid, w.verify = w.issuer.JWKS().IDs()[0], trusting(w.issuer)
	w.token = must[string](t)(w.issuer.Issue(hardware(), policyDigest, attest.IssueOptions{}))
	if _, err := w.verify.Verify(w.token, at); err != nil {
		t.Fatal(err)
	}
	return w
}

// signed returns a token with another body under the right header.
func (w world) signed(t testing.TB, change func(body map[string]any)) string {
	t.Helper()
	body := part(t, w.token, 1)
	change(body)
	return forge(t, w.key, part(t, w.token, 0), body)
}

func TestTokenHeaderRefused(t *testing.T) {
	w := newWorld(t)
	stranger := newKey(t, elliptic.P256())
	other := newKey(t, elliptic.P384())
	w.verify.Keys = must[attest.KeySet](t)(attest.NewKeySet(&w.key.PublicKey, &other.PublicKey))
	otherKid := w.verify.Keys.IDs()[1]
	strangerKid := must[string](t)(attest.Thumbprint(&stranger.PublicKey))
	body := part(t, w.token, 1)
	parts := strings.Split(w.token, ".")
	spki := must[[]byte](t)(x509.MarshalPKIXPublicKey(&w.key.PublicKey))

	mac := func(secret []byte) string {
		input := b64(must[[]byte](t)(json.Marshal(map[string]string{"alg": "HS256", "kid": w.kid, "typ": "JWT"}))) + "." + parts[1]
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(input))
		return input + "." + b64(h.Sum(nil))
	}
	with := func(name string, value any) map[string]any {
		return map[string]any{"alg": "ES256", "kid": w.kid, "typ": "JWT", name: value}
	}
	jwkOf := func(k *ecdsa.PublicKey) any {
		set := must[attest.KeySet](t)(attest.NewKeySet(k))
		var m struct{ Keys []map[string]any }
		if err := json.Unmarshal(must[[]byte](t)(set.MarshalJSON()), &m); err != nil {
			t.Fatal(err)
		}
		return m.Keys[0]
	}
	cert := b64(attesttest.New(tee.Claims{}).Roots()[0].Raw)
	cases := []struct {
		name  string
		token string
		codes []tee.Code
	}{
		{"empty", "", []tee.Code{attest.CodeTokenMalformed}},
		{"two parts", parts[0] + "." + parts[1], []tee.Code{attest.CodeTokenMalformed}},
		{"four parts", w.token + ".", []tee.Code{attest.CodeTokenMalformed}},
		{"JSON serialization", `{"payload":"` + parts[1] + `"}`, []tee.Code{attest.CodeTokenMalformed}},
		{"too long", strings.Repeat("a", attest.MaxToken+1), []tee.Code{attest.CodeTokenMalformed}},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "==", []tee.Code{attest.CodeTokenMalformed}},
		{"newline in the signature", parts[0] + "." + parts[1] + "." + parts[2][:40] + "\n" + parts[2][40:], []tee.Code{attest.CodeTokenMalformed}},
		{"newline at the end", w.token + "\n", []tee.Code{attest.CodeTokenMalformed}},
		{"header is no JSON", forge(t, w.key, "ES256", body), []tee.Code{attest.CodeTokenMalformed}},
		{"header is a list", forge(t, w.key, "[]", body), []tee.Code{attest.CodeTokenMalformed}},
		{"header member twice", forge(t, w.key, `{"alg":"ES256","alg":"ES256","kid":"`+w.kid+`","typ":"JWT"}`, body), []tee.Code{attest.CodeTokenMalformed}},
		{"header member in capitals", forge(t, w.key, with("ALG", "none"), body), []tee.Code{attest.CodeTokenMalformed}},
		{"alg none", b64([]byte(`{"alg":"none","kid":"`+w.kid+`","typ":"JWT"}`)) + "." + parts[1] + ".", []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg none with the good signature", b64([]byte(`{"alg":"none","kid":"`+w.kid+`","typ":"JWT"}`)) + "." + parts[1] + "." + parts[2], []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg is a number", forge(t, w.key, with("alg", 256), body), []tee.Code{attest.CodeTokenAlgorithm}},
		{"no alg", forge(t, w.key, map[string]any{"kid": w.kid, "typ": "JWT"}, body), []tee.Code{attest.CodeTokenAlgorithm}},
		{"HS256, secret = SPKI", mac(spki), []tee.Code{attest.CodeTokenAlgorithm}},
		{"HS256, secret = JWKS", mac(must[[]byte](t)(w.verify.Keys.MarshalJSON())), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg of another key", forge(t, w.key, with("alg", "ES384"), body), []tee.Code{attest.CodeTokenAlgorithm}},
		{"kid of another key", forge(t, w.key, with("kid", otherKid), body), []tee.Code{attest.CodeTokenAlgorithm}},
		{"no kid", forge(t, w.key, map[string]any{"alg": "ES256", "typ": "JWT"}, body), []tee.Code{attest.CodeTokenKey}},
		{"empty kid", forge(t, w.key, with("kid", ""), body), []tee.Code{attest.CodeTokenKey}},
		{"foreign kid", forge(t, stranger, with("kid", strangerKid), body), []tee.Code{attest.CodeTokenKey}},
		{"foreign kid with its own x5c", forge(t, stranger, map[string]any{"alg": "ES256", "kid": strangerKid, "typ": "JWT", "x5c": []string{cert}}, body),
			[]tee.Code{attest.CodeTokenMalformed, attest.CodeTokenKey}},
		{"foreign key in jwk", forge(t, stranger, with("jwk", jwkOf(&stranger.PublicKey)), body), []tee.Code{attest.CodeTokenMalformed}},
		{"own key in jwk", forge(t, w.key, with("jwk", jwkOf(&w.key.PublicKey)), body), []tee.Code{attest.CodeTokenMalformed}},
		{"jku", forge(t, w.key, with("jku", "https://evil.example/jwks.json"), body), []tee.Code{attest.CodeTokenMalformed}},
		{"x5u", forge(t, w.key, with("x5u", "https://evil.example/chain.pem"), body), []tee.Code{attest.CodeTokenMalformed}},
		{"crit", forge(t, w.key, with("crit", []string{"exp"}), body), []tee.Code{attest.CodeTokenMalformed}},
		{"b64", forge(t, w.key, with("b64", false), body), []tee.Code{attest.CodeTokenMalformed}},
		{"typ", forge(t, w.key, with("typ", "at+jwt"), body), []tee.Code{attest.CodeTokenMalformed}},
		{"signed by a stranger", forge(t, stranger, part(t, w.token, 0), body), []tee.Code{attest.CodeTokenSignature}},
		{"signature of zeros", parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)), []tee.Code{attest.CodeTokenSignature}},
		{"signature cut", parts[0] + "." + parts[1] + "." + parts[2][:84], []tee.Code{attest.CodeTokenSignature}},
		{"signature in DER", parts[0] + "." + parts[1] + "." + b64(der(t, w.key, parts[0]+"."+parts[1])), []tee.Code{attest.CodeTokenSignature}},
		{"no signature", parts[0] + "." + parts[1] + ".", []tee.Code{attest.CodeTokenSignature}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := w.verify.Verify(c.token, at)
			wantCodes(t, err, attest.ErrToken, c.codes...)
			if res != nil {
				t.Error("a result beside an error")
			}
			if strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), strangerKid) {
				t.Errorf("repeats what an unproven token says: %v", err)
			}
		})
	}
}

func der(t testing.TB, key *ecdsa.PrivateKey, input string) []byte {
	t.Helper()
	d := sha256.Sum256([]byte(input))
	return must[[]byte](t)(ecdsa.SignASN1(nil, key, d[:]))
}
