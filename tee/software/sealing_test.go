//go:build linux

package software

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func TestSealingKeysDiffer(t *testing.T) {
	p, other := newPlatform(t), newPlatform(t)
	a, b := newKey(t), newKey(t)
	debugOf := func(d launch.Document, sig []byte) (launch.Document, []byte) { d.Debug = true; return d, sig }
	v1, sig1 := signedDocument(t, a, 7, 1)
	v2, sig2 := signedDocument(t, a, 7, 2)
	product, sigProduct := signedDocument(t, a, 8, 2)
	foreign, sigForeign := signedDocument(t, b, 7, 2)
	debug, sigDebug := debugOf(v2, sig2)
	keyOf := func(p *Platform, d launch.Document, sig []byte, policy tee.SealPolicy, context string) string {
		t.Helper()
		k, err := start(t, p, d, sig).SealingKey(t.Context(), policy, []byte(context))
		if err != nil || len(k) != 32 || bytes.Equal(k, make([]byte, 32)) {
			t.Fatal(k, err)
		}
		return hex.EncodeToString(k)
	}
	base := keyOf(p, v2, sig2, tee.SealToSigner(1), "ctx")
	if got := keyOf(p, v1, sig1, tee.SealToSigner(1), "ctx"); got != base {
		t.Error("svn 2 does not open what svn 1 sealed")
	}
	args := v2
	args.Args = []string{"other"}
	if got := keyOf(p, args, sig2, tee.SealToSigner(1), "ctx"); got != base {
		t.Error("an update with other arguments does not open what its predecessor sealed")
	}
	exact := keyOf(p, v2, sig2, tee.SealToMeasurement(), "ctx")
	if got := keyOf(p, v2, sig2, tee.SealToMeasurement(), "ctx"); got != exact {
		t.Error("the same launch gets another key")
	}
	seen := map[string]string{}
	for name, key := range map[string]string{
		"signer svn 1":      base,
		"signer svn 2":      keyOf(p, v2, sig2, tee.SealToSigner(2), "ctx"),
		"signer svn 0":      keyOf(p, v2, sig2, tee.SealToSigner(0), "ctx"),
		"other context":     keyOf(p, v2, sig2, tee.SealToSigner(1), "ctx2"),
		"no context":        keyOf(p, v2, sig2, tee.SealToSigner(1), ""),
		"other product":     keyOf(p, product, sigProduct, tee.SealToSigner(1), "ctx"),
		"other signer":      keyOf(p, foreign, sigForeign, tee.SealToSigner(1), "ctx"),
		"debug":             keyOf(p, debug, sigDebug, tee.SealToSigner(1), "ctx"),
		"other platform":    keyOf(other, v2, sig2, tee.SealToSigner(1), "ctx"),
		"measurement":       exact,
		"other measurement": keyOf(p, args, sig2, tee.SealToMeasurement(), "ctx"),
		"unsigned":          keyOf(p, testDocument(), nil, tee.SealToMeasurement(), "ctx"),
	} {
		if twin, dup := seen[key]; dup {
			t.Errorf("%s and %s have one key", name, twin)
		}
		seen[key] = name
	}
}

func TestSealingKeyRefuses(t *testing.T) {
	p := newPlatform(t)
	doc, sig := signedDocument(t, newKey(t), 1, 2)
	signed, unsigned := start(t, p, doc, sig), start(t, p, testDocument(), nil)
	cases := []struct {
		in      *Instance
		policy  tee.SealPolicy
		context []byte
		code    tee.Code
	}{
		{signed, tee.SealPolicy{}, nil, tee.CodeSealPolicy},
		{signed, tee.SealPolicy{To: "anyone"}, nil, tee.CodeSealPolicy},
		{signed, tee.SealPolicy{To: "measurement", SVN: 1}, nil, tee.CodeSealPolicy},
		{signed, tee.SealToSigner(3), nil, tee.CodeSealPolicy},
		{unsigned, tee.SealToSigner(0), nil, tee.CodeSealPolicy},
		{signed, tee.SealToMeasurement(), make([]byte, MaxSealContext+1), tee.CodeParse},
	}
	for i, c := range cases {
		t.Run(fmt.Sprint(i, c.policy), func(t *testing.T) {
			k, err := c.in.SealingKey(t.Context(), c.policy, c.context)
			wantCode(t, err, c.code)
			if k != nil {
				t.Error("a key beside an error")
			}
		})
	}
}
