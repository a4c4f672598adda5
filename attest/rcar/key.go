package rcar

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
)

// keyAlgorithm is the one that guests name for keys on a curve: secrets will be
// wrapped for the key, which is no business of this package.
const keyAlgorithm = "ECDH-ES+A256KW"

// guestKey is the key that a guest made for one exchange.
type guestKey struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	Alg string `json:"alg"`
	X   string `json:"x"`
	Y   string `json:"y"`

	public *ecdsa.PublicKey
}

// curveOf returns a curve that a token can name a key on, and the size of its
// coordinates.
func curveOf(name string) (elliptic.Curve, int) {
	switch name {
	case "P-256":
		return elliptic.P256(), 32
	case "P-384":
		return elliptic.P384(), 48
	default:
		return nil, 0
	}
}

// parseKey reads a TeePubKey. All that it accepts is part of what is hashed, so a
// member that it does not know is refused.
func parseKey(b []byte) (guestKey, error) {
	var kind struct {
		Kty string `json:"kty"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return guestKey{}, refuse("tee-pubkey: want a JWK")
	}
	if kind.Kty == "RSA" {
		return guestKey{}, refuse("tee-pubkey: RSA keys are not supported: let the guest make a key on P-256")
	}
	var k guestKey
	if err := decode(b, &k); err != nil || k.Kty != "EC" || k.Alg != keyAlgorithm {
		return guestKey{}, refuse("tee-pubkey: want kty EC, crv, alg %s, x and y", keyAlgorithm)
	}
	curve, size := curveOf(k.Crv)
	if curve == nil {
		return guestKey{}, refuse("tee-pubkey: want a key on P-256 or P-384")
	}
	x, okX := decode64(k.X)
	y, okY := decode64(k.Y)
	if !okX || !okY || len(x) != size || len(y) != size {
		return guestKey{}, refuse("tee-pubkey: want coordinates of %d bytes, base64url", size)
	}
	var err error
	if k.public, err = ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...)); err != nil {
		return guestKey{}, refuse("tee-pubkey: the point is not on its curve")
	}
	return k, nil
}

// canonical is the key as RFC 8785 writes it.
func (k guestKey) canonical() string {
	return `{"alg":"` + k.Alg + `","crv":"` + k.Crv + `","kty":"` + k.Kty + `","x":"` + k.X + `","y":"` + k.Y + `"}`
}

// decode64 reads unpadded base64url in its one canonical form.
func decode64(s string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return b, err == nil && base64.RawURLEncoding.EncodeToString(b) == s
}
