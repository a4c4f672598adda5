package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"pgregory.net/rapid"
)

func TestTokenBodyRefused(t *testing.T) {
	w := newWorld(t)
	device := func(b map[string]any) map[string]any { return b["submods"].(map[string]any)["cpu0"].(map[string]any) }
	own := func(b map[string]any) map[string]any { return b["cloister.claims"].(map[string]any) }
	tree := func(b map[string]any) map[string]any { return own(b)["claims"].(map[string]any) }
	cases := []struct {
		name   string
		change func(map[string]any)
		code   tee.Code
	}{
		{"issuer", func(b map[string]any) { b["iss"] = "https://evil.example" }, attest.CodeTokenIssuer},
		{"no issuer", func(b map[string]any) { delete(b, "iss") }, attest.CodeTokenMalformed},
		{"audience", func(b map[string]any) { b["aud"] = "somebody else" }, attest.CodeTokenAudience},
		{"audience list", func(b map[string]any) { b["aud"] = []string{"a", "b"} }, attest.CodeTokenMalformed},
		{"empty audience", func(b map[string]any) { b["aud"] = "" }, attest.CodeTokenMalformed},
		{"profile", func(b map[string]any) { b["eat_profile"] = "https://aka.ms/maa-eat-profile-tdxvm" }, attest.CodeTokenProfile},
		{"no profile", func(b map[string]any) { delete(b, "eat_profile") }, attest.CodeTokenProfile},
		{"profile list", func(b map[string]any) { b["eat_profile"] = []string{attest.EARProfile} }, attest.CodeTokenProfile},
		{"expired", func(b map[string]any) { b["iat"], b["exp"] = at.Unix()-60, at.Unix() }, attest.CodeTokenExpired},
		{"not yet", func(b map[string]any) { b["nbf"] = at.Unix() + 1 }, attest.CodeTokenFuture},
		{"issued later", func(b map[string]any) { b["iat"] = at.Unix() + 1 }, attest.CodeTokenFuture},
		{"lives too long", func(b map[string]any) { b["exp"] = at.Add(attest.DefaultMaxLifetime).Unix() + 1 }, attest.CodeTokenLifetime},
		{"exp in milliseconds", func(b map[string]any) { b["exp"] = at.UnixMilli() }, attest.CodeTokenMalformed},
		{"exp with a fraction", func(b map[string]any) { b["exp"] = float64(at.Unix()) + 0.5 }, attest.CodeTokenMalformed},
		{"exp as text", func(b map[string]any) { b["exp"] = "2030-01-01" }, attest.CodeTokenMalformed},
		{"negative iat", func(b map[string]any) { b["iat"] = -1 }, attest.CodeTokenMalformed},
		{"no exp", func(b map[string]any) { delete(b, "exp") }, attest.CodeTokenMalformed},
		{"no jti", func(b map[string]any) { delete(b, "jti") }, attest.CodeTokenMalformed},
		{"no verifier", func(b map[string]any) { delete(b, "ear.verifier-id") }, attest.CodeTokenMalformed},
		{"no simulated", func(b map[string]any) { delete(b, "cloister.simulated") }, attest.CodeTokenMalformed},
		{"no debug", func(b map[string]any) { delete(b, "cloister.debug") }, attest.CodeTokenMalformed},
		{"no claims", func(b map[string]any) { delete(b, "cloister.claims") }, attest.CodeTokenMalformed},
		{"claims are a text", func(b map[string]any) { own(b)["claims"] = "all good" }, attest.CodeTokenMalformed},
		{"a number out of range", func(b map[string]any) { tree(b)["svn"] = json.Number("1e999") }, attest.CodeTokenMalformed},
		{"member in capitals", func(b map[string]any) { b["EXP"] = 1 }, attest.CodeTokenMalformed},
		{"no device", func(b map[string]any) { b["submods"] = map[string]any{} }, attest.CodeTokenMalformed},
		{"a second device", func(b map[string]any) { b["submods"].(map[string]any)["gpu0"] = device(b) }, attest.CodeTokenMalformed},
		{"unknown word on the device", func(b map[string]any) { device(b)["ear.key-attestation"] = 1 }, attest.CodeTokenMalformed},
		{"unknown part of the vector", func(b map[string]any) {
			device(b)["ear.trustworthiness-vector"].(map[string]any)["executables"] = 96
		}, attest.CodeTokenMalformed},
		{"status nicer than the vector", func(b map[string]any) { tree(b)["tcb_status"] = "Revoked" }, attest.CodeTokenMalformed},
		{"status other than the vector", func(b map[string]any) { device(b)["ear.status"] = "none" }, attest.CodeTokenMalformed},
		{"simulated only in the tree", func(b map[string]any) { tree(b)["simulated"] = true }, attest.CodeTokenMalformed},
		{"debug only in the tree", func(b map[string]any) { tree(b)["debug"] = true }, attest.CodeTokenMalformed},
		{"software that is not simulated", func(b map[string]any) { tree(b)["tee"] = "software" }, attest.CodeTokenMalformed},
		{"unknown TEE", func(b map[string]any) { tree(b)["tee"] = "magic" }, attest.CodeTokenMalformed},
		{"no TEE", func(b map[string]any) { delete(tree(b), "tee") }, attest.CodeTokenMalformed},
		{"evidence digest", func(b map[string]any) { own(b)["evidence_digest"] = "00" }, attest.CodeTokenMalformed},
		{"digest in capitals", func(b map[string]any) { own(b)["endorsements_digest"] = strings.Repeat("AB", 32) }, attest.CodeTokenMalformed},
		{"policy id", func(b map[string]any) { device(b)["ear.appraisal-policy-id"] = "policy 1" }, attest.CodeTokenMalformed},
		{"another policy", func(b map[string]any) { device(b)["ear.appraisal-policy-id"] = "sha256:" + strings.Repeat("ab", 32) }, attest.CodeTokenPolicy},
		{"short nonce", func(b map[string]any) { b["eat_nonce"] = "AAAA" }, attest.CodeTokenMalformed},
		{"cnf with a kid", func(b map[string]any) { b["cnf"] = map[string]any{"kid": "1"} }, attest.CodeTokenMalformed},
		{"cnf with nothing", func(b map[string]any) { b["cnf"] = map[string]any{} }, attest.CodeTokenMalformed},
		{"cnf off its curve", func(b map[string]any) {
			b["cnf"] = map[string]any{"jwk": map[string]any{"kty": "EC", "crv": "P-256", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}}
		}, attest.CodeTokenMalformed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			token := w.signed(t, c.change)
			res, err := w.verify.Verify(token, at)
			wantCodes(t, err, attest.ErrToken, c.code)
			if res != nil {
				t.Error("a result beside an error")
			}
		})
	}
	t.Run("member twice", func(t *testing.T) {
		body := string(must[[]byte](t)(json.Marshal(part(t, w.token, 1))))
		_, err := w.verify.Verify(forge(t, w.key, part(t, w.token, 0), `{"exp":9999999999,`+body[1:]), at)
		wantCodes(t, err, attest.ErrToken, attest.CodeTokenMalformed)
	})
	t.Run("an unknown claim is ignored", func(t *testing.T) {
		if _, err := w.verify.Verify(w.signed(t, func(b map[string]any) { b["new_claim"] = 1 }), at); err != nil {
			t.Error(err)
		}
	})
	t.Run("every reason is listed", func(t *testing.T) {
		token := w.signed(t, func(b map[string]any) { b["iss"], b["aud"], b["exp"] = "x", "y", at.Unix()-1 })
		_, err := w.verify.Verify(token, at.Add(time.Hour))
		wantCodes(t, err, attest.ErrToken, attest.CodeTokenIssuer, attest.CodeTokenAudience, attest.CodeTokenExpired, attest.CodeTokenLifetime)
	})
}

func TestTokenVerifierRefuses(t *testing.T) {
	w := newWorld(t)
	bearer, thief := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	nonce := []byte("nonce of this exchange")
	bound := must[string](t)(w.issuer.Issue(hardware(), policyDigest, attest.IssueOptions{Audience: "vault", Nonce: nonce, Confirm: &bearer.PublicKey}))
	cases := []struct {
		name  string
		token string
		set   func(*attest.TokenVerifier)
		at    time.Time
		codes []tee.Code
	}{
		{"zero value", w.token, func(v *attest.TokenVerifier) { *v = attest.TokenVerifier{} }, at, []tee.Code{attest.CodeTokenConfig}},
		{"no keys", w.token, func(v *attest.TokenVerifier) { v.Keys = attest.KeySet{} }, at, []tee.Code{attest.CodeTokenConfig}},
		{"no issuer", w.token, func(v *attest.TokenVerifier) { v.Issuer = "" }, at, []tee.Code{attest.CodeTokenConfig}},
		{"no audience", w.token, func(v *attest.TokenVerifier) { v.AllowNoAudience = false }, at, []tee.Code{attest.CodeTokenConfig}},
		{"no policy", w.token, func(v *attest.TokenVerifier) { v.Policies = nil }, at, []tee.Code{attest.CodeTokenConfig}},
		{"no time", w.token, nil, time.Time{}, []tee.Code{attest.CodeTokenConfig}},
		{"negative leeway", w.token, func(v *attest.TokenVerifier) { v.Leeway = -time.Hour }, at, []tee.Code{attest.CodeTokenConfig}},
		{"key of no use", w.token, func(v *attest.TokenVerifier) {
			v.Confirm = &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
		}, at, []tee.Code{attest.CodeTokenConfig}},
		{"addressed to nobody", w.token, func(v *attest.TokenVerifier) { v.Audience, v.AllowNoAudience = "vault", false }, at, []tee.Code{attest.CodeTokenAudience}},
		{"addressed to another", bound, func(v *attest.TokenVerifier) { v.Audience, v.Confirm = "kms", &bearer.PublicKey }, at, []tee.Code{attest.CodeTokenAudience}},
		{"addressed, and no name to compare", bound, func(v *attest.TokenVerifier) { v.Confirm = &bearer.PublicKey }, at, []tee.Code{attest.CodeTokenAudience}},
		{"other issuer", w.token, func(v *attest.TokenVerifier) { v.Issuer += "/" }, at, []tee.Code{attest.CodeTokenIssuer}},
		{"other policy", w.token, func(v *attest.TokenVerifier) { v.Policies = [][32]byte{{1}, {2}} }, at, []tee.Code{attest.CodeTokenPolicy}},
		{"clock set back", w.token, nil, at.Add(-time.Second), []tee.Code{attest.CodeTokenFuture}},
		{"clock set back to 1970", w.token, nil, time.Unix(0, 0), []tee.Code{attest.CodeTokenFuture}},
		{"clock at 0001", w.token, nil, time.Time{}.Add(time.Second), []tee.Code{attest.CodeTokenFuture}},
		{"expired by a second", w.token, nil, at.Add(attest.DefaultTokenLifetime), []tee.Code{attest.CodeTokenExpired}},
		{"expired long ago", w.token, nil, at.AddDate(200, 0, 0), []tee.Code{attest.CodeTokenExpired}},
		{"stale", w.token, func(v *attest.TokenVerifier) { v.MaxAge = time.Minute }, at.Add(time.Minute + time.Second), []tee.Code{attest.CodeTokenStale}},
		{"lives too long", w.token, func(v *attest.TokenVerifier) { v.MaxLifetime = time.Minute }, at, []tee.Code{attest.CodeTokenLifetime}},
		{"no nonce", w.token, func(v *attest.TokenVerifier) { v.Nonce = nonce }, at, []tee.Code{attest.CodeTokenNonce}},
		{"empty nonce wanted", w.token, func(v *attest.TokenVerifier) { v.Nonce = []byte{} }, at, []tee.Code{attest.CodeTokenConfig}},
		{"other nonce", bound, func(v *attest.TokenVerifier) {
			v.Audience, v.Confirm, v.Nonce = "vault", &bearer.PublicKey, []byte("nonce of another exchange")
		}, at, []tee.Code{attest.CodeTokenNonce}},
		{"stolen token", bound, func(v *attest.TokenVerifier) { v.Audience, v.Confirm = "vault", &thief.PublicKey }, at, []tee.Code{attest.CodeTokenBinding}},
		{"nobody proved the key", bound, func(v *attest.TokenVerifier) { v.Audience = "vault" }, at, []tee.Code{attest.CodeTokenBinding}},
		{"bound to no key", w.token, func(v *attest.TokenVerifier) { v.Confirm = &bearer.PublicKey }, at, []tee.Code{attest.CodeTokenBinding}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := w.verify
			if c.set != nil {
				c.set(&v)
			}
			_, err := v.Verify(c.token, c.at)
			wantCodes(t, err, attest.ErrToken, c.codes...)
		})
	}
}

func TestTokenLeeway(t *testing.T) {
	w := newWorld(t)
	w.verify.Leeway, w.verify.MaxAge = 30*time.Second, attest.DefaultTokenLifetime
	for _, good := range []time.Time{at.Add(-30 * time.Second), at, at.Add(attest.DefaultTokenLifetime + 29*time.Second)} {
		if _, err := w.verify.Verify(w.token, good); err != nil {
			t.Errorf("at %v: %v", good, err)
		}
	}
	_, err := w.verify.Verify(w.token, at.Add(-31*time.Second))
	wantCodes(t, err, attest.ErrToken, attest.CodeTokenFuture)
	_, err = w.verify.Verify(w.token, at.Add(attest.DefaultTokenLifetime+31*time.Second))
	wantCodes(t, err, attest.ErrToken, attest.CodeTokenExpired, attest.CodeTokenStale)
}

// A rotated key goes on verifying what it signed while it is published, and not
// a moment longer.
func TestTokenKeyRotation(t *testing.T) {
	old := newWorld(t)
	next := newIssuer(t, func(c *attest.IssuerConfig) { c.Previous = []*ecdsa.PublicKey{&old.key.PublicKey} })
	if ids := next.JWKS().IDs(); len(ids) != 2 || ids[0] == old.kid || ids[1] != old.kid {
		t.Fatalf("keys %v, want the new one, then %s", ids, old.kid)
	}
	fresh := must[string](t)(next.Issue(hardware(), policyDigest, attest.IssueOptions{}))
	v := trusting(next)
	for name, token := range map[string]string{"old": old.token, "new": fresh} {
		if _, err := v.Verify(token, at); err != nil {
			t.Errorf("%s token: %v", name, err)
		}
	}
	_, err := old.verify.Verify(fresh, at)
	wantCodes(t, err, attest.ErrToken, attest.CodeTokenKey)
	_, err = trusting(newIssuer(t, nil)).Verify(old.token, at)
	wantCodes(t, err, attest.ErrToken, attest.CodeTokenKey)
}

func TestAnyChangedByteIsRefused(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(w.token)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		c := rapid.Byte().Draw(t, "byte")
		if b[i] == c {
			c ^= 1
		}
		b[i] = c
		if _, err := w.verify.Verify(string(b), at); err == nil {
			t.Fatalf("accepted with byte %d changed to %q", i, c)
		}
	})
	// The last character holds bits that a lax decoder ignores: try them all.
	for c := range 256 {
		b := []byte(w.token)
		if b[len(b)-1] == byte(c) {
			continue
		}
		b[len(b)-1] = byte(c)
		if _, err := w.verify.Verify(string(b), at); err == nil {
			t.Errorf("accepted with the last byte %#x", c)
		}
	}
}
