package refvalues_test

import (
	"crypto"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/google/go-cmp/cmp"
)

// FuzzUVM takes bytes for a message, and has a test issuer sign them as a
// payload and as a protected header.
func FuzzUVM(f *testing.F) {
	a := newAuthority(f, nil)
	for name := range realUVMs() {
		f.Add(realUVM(f, name))
	}
	for _, e := range []*endorsement{a.envelope(), a.json()} {
		f.Add(e.sign(f))
		f.Add(encode(f, e.protected))
		f.Add(e.payload)
	}
	f.Add([]byte(uvmJSON("7", `,"x-ms-sevsnpvm-guestsvn-int":7,"x":[{}]`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		verify := func(b []byte, i refvalues.UVMIssuer) (refvalues.UVM, bool) {
			u, err := refvalues.VerifyUVM(b, i)
			if err != nil && (!cmp.Equal(u, refvalues.UVM{}) || !errors.Is(err, refvalues.ErrFormat) && !errors.Is(err, refvalues.ErrNotTrusted)) {
				t.Fatalf("got %+v, %v", u, err)
			}
			if err == nil && (u.Issuer != i.DID || u.Feed != i.Feed || len(u.Measurement) != 48) {
				t.Fatalf("got %+v for %+v", u, i)
			}
			return u, err == nil
		}
		if u, ok := verify(b, refvalues.MicrosoftUVM()); ok {
			real := false
			for _, want := range realUVMs() {
				real = real || cmp.Equal(u, want)
			}
			if !real {
				t.Fatalf("Microsoft did not sign %+v", u)
			}
		}
		env, doc := a.envelope(), a.json()
		env.payload, doc.payload = b, b
		verify(env.sign(t), a.trusts())
		verify(doc.sign(t), a.trusts())
		verify(signRaw(t, env.alg, env.key, append([]byte{}, b...), obj{}, m48), a.trusts())
	})
}

func FuzzDIDX509(f *testing.F) {
	a := newAuthority(f, nil)
	for _, s := range []string{
		refvalues.MicrosoftUVM().DID, did(a.root), did(a.sub, "subject:CN:leaf:O:Example%20%26%20Co", "eku:"+usage),
		did(a.root, "san:dns:example.com"), "did:x509:0:sha512:" + sha512Text(a.root) + "::subject:1.2.3:x",
	} {
		f.Add(s, []byte(nil), int64(0))
		f.Add(s, a.leaf.cert.Raw, at.Unix())
	}
	f.Fuzz(func(t *testing.T, s string, leaf []byte, seconds int64) {
		d, err := refvalues.ParseDIDX509(s)
		if err != nil {
			if !errors.Is(err, refvalues.ErrFormat) || !cmp.Equal(d, refvalues.DIDX509{}, cmp.AllowUnexported(refvalues.DIDX509{})) {
				t.Fatalf("got %+v, %v", d, err)
			}
			return
		}
		chain := a.chain()
		if len(leaf) > 0 {
			chain[0] = leaf
		}
		key, err := d.Resolve(chain, time.Unix(seconds, 0))
		if (key == nil) != (err != nil) || err != nil && !errors.Is(err, refvalues.ErrFormat) && !errors.Is(err, refvalues.ErrNotTrusted) {
			t.Fatalf("got %v, %v", key, err)
		}
		if err == nil && !a.leaf.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key) {
			t.Fatal("the authority certified no other key")
		}
	})
}

func sha512Text(c *certified) string {
	return base64.RawURLEncoding.EncodeToString(sha512Of(c.cert.Raw))
}
