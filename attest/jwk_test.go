package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/google/go-cmp/cmp"
)

// exampleSet is the key of RFC 7515 appendix A.3 under its thumbprint.
const exampleSet = `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",` +
	`"kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U","use":"sig","alg":"ES256"}]}`

func TestJWKSRoundTrip(t *testing.T) {
	a, b := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	want := must[attest.KeySet](t)(attest.NewKeySet(&a.PublicKey, &b.PublicKey))
	encoded := must[[]byte](t)(json.Marshal(want))
	got := must[attest.KeySet](t)(attest.ParseJWKS(encoded))
	if d := cmp.Diff(want.IDs(), got.IDs()); d != "" || len(got.IDs()) != 2 {
		t.Errorf("kids (-want +got):\n%s", d)
	}
	if again := must[[]byte](t)(json.Marshal(got)); string(again) != string(encoded) {
		t.Errorf("encoded again: %s, want %s", again, encoded)
	}
	if d := cmp.Diff([]string{"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"}, must[attest.KeySet](t)(attest.ParseJWKS([]byte(exampleSet))).IDs()); d != "" {
		t.Errorf("the RFC's key (-want +got):\n%s", d)
	}
}

func TestParseJWKSRefuses(t *testing.T) {
	one := strings.TrimSuffix(strings.TrimPrefix(exampleSet, `{"keys":[`), `]}`)
	replace := func(old, new string) string {
		if !strings.Contains(exampleSet, old) {
			t.Fatalf("%q is not in the example", old)
		}
		return strings.Replace(exampleSet, old, new, 1)
	}
	cases := map[string]string{
		"empty":               ``,
		"not an object":       `[]`,
		"no keys":             `{"keys":[]}`,
		"nothing":             `{}`,
		"null":                `null`,
		"trailing":            exampleSet + " {}",
		"unknown member":      `{"keys":[` + one + `],"next":1}`,
		"keys twice":          `{"keys":[` + one + `],"keys":[` + one + `]}`,
		"capitals":            replace(`"keys"`, `"Keys"`),
		"key twice":           `{"keys":[` + one + `,` + one + `]}`,
		"too long":            exampleSet + strings.Repeat(" ", attest.MaxJWKS),
		"private key":         replace(`"use"`, `"d":"AA","use"`),
		"certificate":         replace(`"use"`, `"x5c":["AA"],"use"`),
		"key operations":      replace(`"use"`, `"key_ops":["sign"],"use"`),
		"RSA":                 replace(`"EC"`, `"RSA"`),
		"symmetric":           `{"keys":[{"kty":"oct","kid":"1","k":"AAAA"}]}`,
		"curve":               replace(`P-256`, `P-521`),
		"curve of another":    replace(`P-256`, `P-384`),
		"point off the curve": replace(`f83O`, `f83P`),
		"short coordinate":    replace(`f83O`, ``),
		"padded coordinate":   replace(`RVEU`, `RVEU=`),
		"coordinate bits":     replace(`RVEU`, `RVEV`),
		"no kid":              replace(`"kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",`, ``),
		"kid of its own":      replace(`oKIywv`, `xKIywv`),
		"use":                 replace(`"sig"`, `"enc"`),
		"alg":                 replace(`ES256`, `RS256`),
		"nested":              `{"keys":[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]}`,
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := attest.ParseJWKS([]byte(in))
			if !errors.Is(err, attest.ErrKeySet) {
				t.Errorf("got %v, want ErrKeySet", err)
			}
			if len(set.IDs()) != 0 {
				t.Error("keys beside an error")
			}
		})
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	var nothing *ecdsa.PublicKey
	p521 := newKey(t, elliptic.P521()).PublicKey
	for name, k := range map[string]*ecdsa.PublicKey{"nil": nothing, "zero": {}, "P-521": &p521} {
		if _, err := attest.NewKeySet(k); !errors.Is(err, attest.ErrKeySet) {
			t.Errorf("%s: got %v, want ErrKeySet", name, err)
		}
		if id, err := attest.Thumbprint(k); id != "" || !errors.Is(err, attest.ErrKeySet) {
			t.Errorf("%s: thumbprint %q %v", name, id, err)
		}
	}
}

func TestKeySetIsBounded(t *testing.T) {
	var many []*ecdsa.PublicKey
	for range attest.MaxJWKSKeys {
		many = append(many, &newKey(t, elliptic.P256()).PublicKey)
	}
	if _, err := attest.NewKeySet(many...); err != nil {
		t.Fatal(err)
	}
	if _, err := attest.NewKeySet(append(many, &newKey(t, elliptic.P256()).PublicKey)...); !errors.Is(err, attest.ErrKeySet) {
		t.Errorf("got %v, want ErrKeySet", err)
	}
}

func FuzzJWKS(f *testing.F) {
	f.Add([]byte(exampleSet))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-384","x":"","y":"","kid":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := attest.ParseJWKS(b)
		if err != nil {
			if len(set.IDs()) != 0 || !errors.Is(err, attest.ErrKeySet) {
				t.Fatalf("keys %v, error %v", set.IDs(), err)
			}
			return
		}
		encoded, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		again, err := attest.ParseJWKS(encoded)
		if err != nil || len(again.IDs()) == 0 || cmp.Diff(set.IDs(), again.IDs()) != "" {
			t.Fatalf("%v read again as %v: %v", set.IDs(), again.IDs(), err)
		}
	})
}
