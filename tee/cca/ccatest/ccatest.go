// Package ccatest gives other packages' tests an Arm CCA platform of their own: a
// platform key, and tokens that it and a realm sign, good or wrong in any way.
//
// It protects nothing and is for tests only.
package ccatest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/cca"
)

// At is some time; nothing here is valid only then.
var At = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Platform is a platform with a realm on it. It is a [tee.Attester].
type Platform struct {
	CPAK, RAK *ecdsa.PrivateKey // of the platform, of the realm
	// Change changes the claims of both tokens, by their labels, before they are
	// signed.
	Change func(platform, realm map[int]any)
	// CMW writes the newer form of the collection.
	CMW bool
}

// New returns a platform with keys on P-384.
func New(tb testing.TB) *Platform {
	tb.Helper()
	return &Platform{CPAK: NewKey(tb, elliptic.P384()), RAK: NewKey(tb, elliptic.P384())}
}

// NewKey returns a key.
func NewKey(tb testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Trusted is the collateral that enrols platforms.
func Trusted(tb testing.TB, platforms ...*Platform) map[string][]byte {
	tb.Helper()
	var b []byte
	for _, p := range platforms {
		der, err := x509.MarshalPKIXPublicKey(&p.CPAK.PublicKey)
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return map[string][]byte{cca.TrustedCPAK: b}
}

// Input is At with the platform enrolled.
func (p *Platform) Input(tb testing.TB) tee.Input {
	tb.Helper()
	return tee.Input{At: At, Endorsements: tee.Endorsements{Collateral: Trusted(tb, p)}}
}

// Kind is tee.ArmCCA.
func (p *Platform) Kind() tee.Kind { return tee.ArmCCA }

// Evidence returns a token with reportData as the realm's challenge.
func (p *Platform) Evidence(_ context.Context, reportData [64]byte) (tee.Evidence, error) {
	publicKey := coseKey(&p.RAK.PublicKey)
	bound := sha256.Sum256(publicKey)
	fill := func(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }
	platform := map[int]any{
		265: "tag:arm.com,2023:cca_platform#1.0.0", 10: bound[:], 2396: fill(0x1D, 32), 256: append([]byte{1}, fill(2, 32)...), 2401: []byte{1, 2, 3},
		2395: 0x3000, 2402: "sha-256", 2400: "https://verifier.example/",
		2399: []any{map[int]any{1: "RMM", 2: fill(3, 32), 4: "1.0.0", 5: fill(4, 32), 6: "sha-256"}},
	}
	realm := map[int]any{
		265: "tag:arm.com,2023:realm#1.0.0", 10: reportData[:], 44235: append(fill(0xDC, 32), make([]byte, 32)...), 44236: "sha-384", 44237: publicKey,
		44238: fill(0x11, 48), 44239: []any{fill(0, 48), fill(0, 48), fill(0, 48), fill(0, 48)}, 44240: "sha-256",
	}
	if p.Change != nil {
		p.Change(platform, realm)
	}
	return tee.Evidence{Kind: tee.ArmCCA, Data: p.collection(Sign(p.CPAK, platform), Sign(p.RAK, realm))}, nil
}

// collection puts two tokens together.
func (p *Platform) collection(platform, realm []byte) []byte {
	if p.CMW {
		return encode(cbor.Tag{Number: 907, Content: map[int]any{44234: []any{263, platform}, 44241: []any{263, realm}}})
	}
	return encode(cbor.Tag{Number: 399, Content: map[int]any{44234: platform, 44241: realm}})
}

// Sign returns COSE_Sign1 of claims by a key, with the algorithm of its curve.
func Sign(key *ecdsa.PrivateKey, claims map[int]any) []byte {
	payload := encode(claims)
	header, n := []byte{0xA1, 0x01, 0x26}, 32
	digest := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	switch key.Curve {
	case elliptic.P384():
		header, n = []byte{0xA1, 0x01, 0x38, 0x22}, 48
		digest = func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }
	case elliptic.P521():
		header, n = []byte{0xA1, 0x01, 0x38, 0x23}, 66
		digest = func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, digest(encode([]any{"Signature1", header, []byte{}, payload})))
	if err != nil {
		panic(err) // only if the system has no random numbers
	}
	signature := make([]byte, 2*n)
	r.FillBytes(signature[:n])
	s.FillBytes(signature[n:])
	return encode(cbor.Tag{Number: 18, Content: []any{header, map[int]any{}, payload, signature}})
}

// coseKey is a COSE_Key.
func coseKey(k *ecdsa.PublicKey) []byte {
	point, err := k.Bytes()
	if err != nil {
		panic(err) // the key is ours
	}
	n := (len(point) - 1) / 2
	curve := map[int]int{32: 1, 48: 2, 66: 3}[n]
	return encode(map[int]any{1: 2, -1: curve, -2: point[1 : 1+n], -3: point[1+n:]})
}

// encode writes deterministic CBOR.
func encode(v any) []byte {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constant options
	}
	b, err := mode.Marshal(v)
	if err != nil {
		panic(err) // what tests give is CBOR
	}
	return b
}

// Interface guard.
var _ tee.Attester = (*Platform)(nil)
