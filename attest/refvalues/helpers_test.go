package refvalues_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

type (
	tag = cbor.Tag
	obj = map[any]any
	arr = []any
)

var (
	at      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m48     = bytes.Repeat([]byte{0xA1}, 48)
	m32     = bytes.Repeat([]byte{0xB2}, 32)
	signer  = bytes.Repeat([]byte{0x51}, 32)
	classBy = map[string]any{
		"snp": obj{0: tag{Number: 37, Content: unhex("d05e6d1b9f464ae2a610ce3e6ee7e153")}},
		"sgx": obj{0: tag{Number: 111, Content: unhex("6086480186F84D0102030501")}},
		"tdx": obj{1: "Intel Corporation", 2: "TDX TD"},
	}
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// triple is a reference triple about a class.
func triple(class string, measurements ...any) arr {
	return arr{obj{0: classBy[class]}, measurements}
}

// guest is the SNP element 0 with the measurement and more.
func guest(more obj) obj {
	m := obj{2: arr{arr{7, m48}}}
	maps.Copy(m, more)
	return obj{0: 0, 1: m}
}

func corimMap(t testing.TB, profile any, triples ...any) obj {
	t.Helper()
	comid := encode(t, obj{1: obj{0: "a tag"}, 4: obj{0: triples}})
	m := obj{0: "a corim", 1: arr{tag{Number: 506, Content: comid}}}
	if profile != nil {
		m[3] = profile
	}
	return m
}

var (
	profileSNP   = tag{Number: 32, Content: "http://amd.com/please-permalink-me"}
	profileIntel = tag{Number: 111, Content: unhex("6086480186F84D011001")}
)

// unsigned encodes a CoRIM.
func unsigned(t testing.TB, profile any, triples ...any) []byte {
	return encode(t, tag{Number: 501, Content: corimMap(t, profile, triples...)})
}

var open = refvalues.CoRIMOptions{AllowUnsigned: true, Classes: map[string]tee.Kind{"Intel Corporation/TDX TD": tee.TDX}}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signed makes a signed CoRIM with more protected headers.
func signed(t testing.TB, alg cose.Algorithm, key crypto.Signer, payload []byte, more cose.ProtectedHeader) []byte {
	t.Helper()
	s, err := cose.NewSigner(alg, key)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.NewSign1Message()
	m.Payload = payload
	m.Headers.Protected = cose.ProtectedHeader{cose.HeaderLabelAlgorithm: alg, cose.HeaderLabelContentType: "application/rim+cbor"}
	maps.Copy(m.Headers.Protected, more)
	if err := m.Sign(rand.Reader, nil, s); err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// base is a policy that leaves open what reference values say.
func base() attest.Policy {
	return attest.Policy{Version: 1, Name: "base", TCB: []string{attest.Any}}
}

// decides compiles a policy and asks it about claims.
func decides(t testing.TB, p attest.Policy, c tee.Claims) []tee.Code {
	t.Helper()
	a, err := attest.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return attest.Codes(a.Appraise(&attest.Verified{Claims: c}))
}
