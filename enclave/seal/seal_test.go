//go:build linux

package seal_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// code is what an instance runs.
type code struct {
	arg     string
	debug   bool
	signer  *ecdsa.PrivateKey
	product uint32
	svn     uint32
}

var image = []byte("\x00asm image")

func launched(tb testing.TB, p *softwaretest.Platform, c code) *software.Instance {
	tb.Helper()
	doc := launch.New(launch.Wasm, image)
	doc.Debug = c.debug
	if c.arg != "" {
		doc.Args = []string{c.arg}
	}
	var sig []byte
	if c.signer != nil {
		var err error
		if sig, err = launch.SignImage(c.signer, doc.Image.Digest, c.product, c.svn); err != nil {
			tb.Fatal(err)
		}
		if doc, err = doc.Signed(sig); err != nil {
			tb.Fatal(err)
		}
	}
	return p.Instance(tb, doc, image, sig)
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func wantCode(tb testing.TB, plain []byte, err error, code tee.Code) {
	tb.Helper()
	e, ok := errors.AsType[*tee.Error](err)
	if !ok || e.Code != code {
		tb.Errorf("got %v, want a *tee.Error with code %s", err, code)
	}
	if plain != nil {
		tb.Errorf("%d bytes beside an error", len(plain))
	}
}

func sealed(tb testing.TB, s tee.Sealer, p tee.SealPolicy, plain, aad string) []byte {
	tb.Helper()
	b, err := seal.Seal(context.Background(), s, p, []byte(plain), []byte(aad))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	in := launched(t, softwaretest.New(t), code{signer: newKey(t), svn: 3})
	rapid.Check(t, func(r *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(r, "plain")
		aad := rapid.SliceOf(rapid.Byte()).Draw(r, "aad")
		policy := rapid.SampledFrom([]tee.SealPolicy{tee.SealToMeasurement(), tee.SealToSigner(0), tee.SealToSigner(3)}).Draw(r, "policy")
		blob, err := seal.Seal(t.Context(), in, policy, plain, aad)
		if err != nil {
			r.Fatal(err)
		}
		if len(blob) > len(plain)+seal.Overhead {
			r.Fatalf("%d bytes became %d, more than Overhead", len(plain), len(blob))
		}
		if len(plain) >= 8 && bytes.Contains(blob, plain) {
			r.Fatal("the plaintext is in the blob")
		}
		if got, err := seal.Policy(blob); err != nil || got != policy {
			r.Fatalf("Policy = %v, %v, want %v", got, err, policy)
		}
		got, err := seal.Unseal(t.Context(), in, blob, aad)
		if err != nil || !bytes.Equal(got, plain) {
			r.Fatalf("got %x, %v, want %x", got, err, plain)
		}
	})
}

// TestNoTwoBlobsAreAlike: each has a key of its own, so nothing tells that the
// same was sealed twice.
func TestNoTwoBlobsAreAlike(t *testing.T) {
	in := launched(t, softwaretest.New(t), code{})
	a, b := sealed(t, in, tee.SealToMeasurement(), "same", ""), sealed(t, in, tee.SealToMeasurement(), "same", "")
	if bytes.Equal(a, b) || bytes.Equal(a[len(a)-20:], b[len(b)-20:]) {
		t.Error("two blobs of the same content share bytes")
	}
}

func TestEveryAlteredByteIsRefused(t *testing.T) {
	in := launched(t, softwaretest.New(t), code{signer: newKey(t), svn: 2})
	for _, policy := range []tee.SealPolicy{tee.SealToMeasurement(), tee.SealToSigner(1)} {
		blob := sealed(t, in, policy, "state", "aad")
		for i := range blob {
			for _, bit := range []byte{1, 0x80} {
				bad := bytes.Clone(blob)
				bad[i] ^= bit
				plain, err := seal.Unseal(t.Context(), in, bad, []byte("aad"))
				e, ok := errors.AsType[*tee.Error](err)
				// A header that still parses may name a policy that this code
				// does not meet; that is refused before anything is decrypted.
				if !ok || plain != nil || e.Code != tee.CodeSealed && e.Code != tee.CodeSealPolicy {
					t.Fatalf("%v: byte %d changed by %#x: %q, %v", policy, i, bit, plain, err)
				}
				if policyIntact := i < 8 || i > len(blob)-5-16-12; policyIntact && e.Code != tee.CodeSealed {
					t.Errorf("%v: byte %d: code %s, want %s", policy, i, e.Code, tee.CodeSealed)
				}
			}
		}
	}
}

func TestTruncatedAndExtendedIsRefused(t *testing.T) {
	in := launched(t, softwaretest.New(t), code{})
	blob := sealed(t, in, tee.SealToMeasurement(), "state", "")
	for n := range blob {
		plain, err := seal.Unseal(t.Context(), in, blob[:n], nil)
		wantCode(t, plain, err, tee.CodeSealed)
	}
	plain, err := seal.Unseal(t.Context(), in, append(bytes.Clone(blob), 0), nil)
	wantCode(t, plain, err, tee.CodeSealed)
}

// TestOtherAADIsRefused: the aad is not stored, so only who knows it opens.
func TestOtherAADIsRefused(t *testing.T) {
	in := launched(t, softwaretest.New(t), code{})
	blob := sealed(t, in, tee.SealToMeasurement(), "state", "purpose")
	for _, aad := range []string{"", "purpos", "purpose ", "Purpose"} {
		plain, err := seal.Unseal(t.Context(), in, blob, []byte(aad))
		wantCode(t, plain, err, tee.CodeSealed)
	}
}

// TestWhoOpensWhat is the table of seal policies.
func TestWhoOpensWhat(t *testing.T) {
	p, elsewhere := softwaretest.New(t), softwaretest.New(t)
	key := newKey(t)
	v2 := code{signer: key, product: 7, svn: 2}
	with := func(change func(*code)) code { c := v2; change(&c); return c }
	author := launched(t, p, v2)
	exact := sealed(t, author, tee.SealToMeasurement(), "state", "")
	atOne := sealed(t, author, tee.SealToSigner(1), "state", "")
	atTwo := sealed(t, author, tee.SealToSigner(2), "state", "")
	const opens = tee.Code("")
	for name, c := range map[string]struct {
		on                  *softwaretest.Platform
		code                code
		exact, atOne, atTwo tee.Code
	}{
		"the same code":     {p, v2, opens, opens, opens},
		"other arguments":   {p, with(func(c *code) { c.arg = "x" }), tee.CodeSealed, opens, opens},
		"the next version":  {p, with(func(c *code) { c.svn = 3 }), tee.CodeSealed, opens, opens},
		"the version below": {p, with(func(c *code) { c.svn = 1 }), tee.CodeSealed, opens, tee.CodeSealPolicy},
		"two below":         {p, with(func(c *code) { c.svn = 0 }), tee.CodeSealed, tee.CodeSealPolicy, tee.CodeSealPolicy},
		"another product":   {p, with(func(c *code) { c.product = 8 }), tee.CodeSealed, tee.CodeSealed, tee.CodeSealed},
		"another signer":    {p, with(func(c *code) { c.signer = newKey(t) }), tee.CodeSealed, tee.CodeSealed, tee.CodeSealed},
		"unsigned":          {p, code{}, tee.CodeSealed, tee.CodeSealPolicy, tee.CodeSealPolicy},
		"debug":             {p, with(func(c *code) { c.debug = true }), tee.CodeSealed, tee.CodeSealed, tee.CodeSealed},
		"another platform":  {elsewhere, v2, tee.CodeSealed, tee.CodeSealed, tee.CodeSealed},
	} {
		t.Run(name, func(t *testing.T) {
			in := launched(t, c.on, c.code)
			for blob, want := range map[*[]byte]tee.Code{&exact: c.exact, &atOne: c.atOne, &atTwo: c.atTwo} {
				plain, err := seal.Unseal(t.Context(), in, *blob, nil)
				if want != opens {
					wantCode(t, plain, err, want)
				} else if err != nil || string(plain) != "state" {
					t.Errorf("got %q, %v, want it opened", plain, err)
				}
			}
		})
	}
}

// TestDebugDoesNotSealForProduction is the other direction: what a debug launch
// sealed, which its debugger may have chosen, opens in no production launch.
func TestDebugDoesNotSealForProduction(t *testing.T) {
	p, key := softwaretest.New(t), newKey(t)
	blob := sealed(t, launched(t, p, code{signer: key, debug: true}), tee.SealToSigner(0), "state", "")
	plain, err := seal.Unseal(t.Context(), launched(t, p, code{signer: key}), blob, nil)
	wantCode(t, plain, err, tee.CodeSealed)
}

func TestSealRefuses(t *testing.T) {
	p := softwaretest.New(t)
	for name, c := range map[string]struct {
		code   code
		policy tee.SealPolicy
	}{
		"the zero policy":         {code{}, tee.SealPolicy{}},
		"a policy of nobody":      {code{}, tee.SealPolicy{To: "anyone"}},
		"measurement with an SVN": {code{}, tee.SealPolicy{To: "measurement", SVN: 1}},
		"signer, unsigned":        {code{}, tee.SealToSigner(0)},
		"a future version":        {code{signer: newKey(t), svn: 1}, tee.SealToSigner(2)},
	} {
		t.Run(name, func(t *testing.T) {
			blob, err := seal.Seal(t.Context(), launched(t, p, c.code), c.policy, []byte("state"), nil)
			wantCode(t, blob, err, tee.CodeSealPolicy)
		})
	}
}

// TestATEEWithoutAnAnswer: no key, no blob.
func TestATEEWithoutAnAnswer(t *testing.T) {
	in := launched(t, softwaretest.New(t), code{})
	good := sealed(t, in, tee.SealToMeasurement(), "state", "")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	blob, err := seal.Seal(t.Context(), in, tee.SealToMeasurement(), nil, nil)
	wantCode(t, blob, err, tee.CodeUnavailable)
	plain, err := seal.Unseal(t.Context(), in, good, nil)
	wantCode(t, plain, err, tee.CodeUnavailable)
}

func TestPolicyRefusesWhatIsNotSealed(t *testing.T) {
	for _, b := range [][]byte{nil, []byte("CLSEAL1\n"), make([]byte, 100)} {
		p, err := seal.Policy(b)
		wantCode(t, nil, err, tee.CodeSealed)
		if p != (tee.SealPolicy{}) {
			t.Errorf("policy %v beside an error", p)
		}
	}
}
