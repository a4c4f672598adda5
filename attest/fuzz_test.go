package attest_test

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
)

// FuzzTokenVerifier feeds whole tokens, which nobody without the key can make,
// and bodies under a good signature, which a defective issuer could.
func FuzzTokenVerifier(f *testing.F) {
	key := newKey(f, elliptic.P256())
	i := newIssuer(f, func(c *attest.IssuerConfig) { c.Key = key })
	token := must[string](f)(i.Issue(hardware(), policyDigest, attest.IssueOptions{}))
	full := must[string](f)(i.Issue(hardware(), policyDigest, attest.IssueOptions{Audience: "a", Nonce: make([]byte, 8), Confirm: &key.PublicKey}))
	header := `{"alg":"ES256","kid":"` + i.JWKS().IDs()[0] + `","typ":"JWT"}`
	for _, t := range []string{token, full} {
		f.Add(t)
		body, _, _ := strings.Cut(t[strings.Index(t, ".")+1:], ".")
		f.Add(string(must[[]byte](f)(decode64(body))))
	}
	f.Add("..")
	f.Add(`{"eat_profile":"` + attest.EARProfile + `"}`)
	v := trusting(i)
	v.AllowAnyPolicy = true
	f.Fuzz(func(t *testing.T, s string) {
		res, err := v.Verify(s, at)
		if err == nil && s != token {
			t.Fatalf("forged: %+v", res)
		}
		for _, err := range []error{err, func() error {
			res, err = v.Verify(forge(t, key, header, s), at)
			return err
		}()} {
			if err != nil && !errors.Is(err, attest.ErrToken) {
				t.Fatalf("got %v, want ErrToken", err)
			}
		}
		if (res == nil) != (err != nil) {
			t.Fatalf("result %v beside error %v", res, err)
		}
		if res != nil && (res.Simulated || res.Debug || res.Issuer != i.Name() || res.Audience != "" || res.Status != attest.StatusAffirming) {
			t.Fatalf("accepted %+v", res)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(mustJSON(f, attest.HardwareDefault()))
	f.Add(mustJSON(f, fullPolicy()))
	f.Add([]byte(`{"version":1,"name":"x","accept":["sgx"],"tcb":["any"],"measurements":["any"],"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := attest.ParsePolicy(b)
		if err != nil {
			if !errors.Is(err, attest.ErrPolicy) {
				t.Fatalf("got %v, want ErrPolicy", err)
			}
			return
		}
		again, err := attest.ParsePolicy(mustJSON(t, p))
		if err != nil || again.Digest() != p.Digest() {
			t.Fatalf("an accepted policy reads back as another: %v", err)
		}
		if a, err := attest.Compile(p); err == nil {
			if a.Digest() != p.Digest() || a.Policy().Digest() != p.Digest() {
				t.Fatal("compiling changes the digest")
			}
			_ = a.Appraise(hardware())
			if a.Appraise(&attest.Verified{}) == nil {
				t.Fatal("accepts claims of nothing")
			}
		}
	})
}

// FuzzVerifyCWT feeds whole tokens, which nobody without the key can make, and
// headers and bodies under a good signature, which a defective issuer could.
func FuzzVerifyCWT(f *testing.F) {
	w := newCWTWorld(f)
	full := must[[]byte](f)(w.issuer.IssueCWT(hardware(), policyDigest, attest.IssueOptions{Audience: "a", Nonce: make([]byte, 8), Confirm: &w.key.PublicKey}))
	header := w.header(f)
	for _, t := range [][]byte{w.token, full} {
		f.Add(t)
		f.Add(openCOSE(f, t).Payload)
	}
	f.Add(header)
	f.Add([]byte{0xd8, 0x3d, 0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	v := w.verify
	v.AllowAnyPolicy = true
	f.Fuzz(func(t *testing.T, b []byte) {
		res, err := v.VerifyCWT(b, at)
		if err == nil && !bytes.Equal(b, w.token) {
			t.Fatalf("forged: %+v", res)
		}
		for _, token := range [][]byte{b, forgeCWT(t, w.key, header, b), forgeCWT(t, w.key, b, openCOSE(t, w.token).Payload)} {
			res, err := v.VerifyCWT(token, at)
			if err != nil && !errors.Is(err, attest.ErrToken) {
				t.Fatalf("got %v, want ErrToken", err)
			}
			if (res == nil) != (err != nil) {
				t.Fatalf("result %v beside error %v", res, err)
			}
			if res != nil && (res.Simulated || res.Debug || res.Issuer != w.issuer.Name() || res.Audience != "" || res.Status != attest.StatusAffirming) {
				t.Fatalf("accepted %+v", res)
			}
		}
	})
}
