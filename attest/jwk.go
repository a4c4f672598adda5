package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Bounds of a key set.
const (
	MaxJWKS     = 64 << 10 // JSON bytes
	MaxJWKSKeys = 64
)

// ErrKeySet is wrapped by every error about a key set or one of its keys.
var ErrKeySet = errors.New("invalid key set")

// KeySet holds public keys that attestation results are verified with. It
// marshals to a JSON Web Key Set (RFC 7517). It is immutable and safe for
// concurrent use; the zero value holds no key.
type KeySet struct{ keys []tokenKey }

// tokenKey is one key with what follows from it.
type tokenKey struct {
	id     string // RFC 7638 thumbprint
	alg    algorithm
	public *ecdsa.PublicKey
	jwk    jwk
}

// algorithm is a signature algorithm (RFC 7518 section 3.4, RFC 9053 section 2.1)
// with the sizes and the hash that its curve fixes here.
type algorithm struct {
	name, crv          string
	coseAlg, coseCurve int64 // the same two in COSE (RFC 9053 sections 2.1 and 7.1)
	curve              elliptic.Curve
	size               int // bytes of a coordinate, and of each half of a signature
	hash               func([]byte) []byte
}

// algorithms returns what may sign an attestation result, and nothing else.
func algorithms() []algorithm {
	return []algorithm{
		{"ES256", "P-256", -7, 1, elliptic.P256(), 32, func(b []byte) []byte { d := sha256.Sum256(b); return d[:] }},
		{"ES384", "P-384", -35, 2, elliptic.P384(), 48, func(b []byte) []byte { d := sha512.Sum384(b); return d[:] }},
	}
}

// jwk is the JSON form of a public key. Members beside these are refused: a set
// with a private key or a certificate in it is not one of ours.
type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
	Kid string `json:"kid,omitempty"`
	Use string `json:"use,omitempty"`
	Alg string `json:"alg,omitempty"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// NewKeySet returns a set of P-256 and P-384 keys.
func NewKeySet(keys ...*ecdsa.PublicKey) (KeySet, error) {
	var s KeySet
	for _, k := range keys {
		t, err := newTokenKey(k)
		if err != nil {
			return KeySet{}, err
		}
		if err := s.add(t); err != nil {
			return KeySet{}, err
		}
	}
	return s, nil
}

// ParseJWKS reads a JSON Web Key Set strictly: only public P-256 and P-384
// signature keys, each once, each under its RFC 7638 thumbprint as kid, and no
// member that is unknown, repeated or spelled differently.
func ParseJWKS(b []byte) (KeySet, error) {
	if len(b) > MaxJWKS {
		return KeySet{}, fmt.Errorf("%w: %d bytes, at most %d", ErrKeySet, len(b), MaxJWKS)
	}
	var raw jwks
	if err := DecodeStrict(b, &raw); err != nil {
		return KeySet{}, fmt.Errorf("%w: %v", ErrKeySet, err)
	}
	if len(raw.Keys) == 0 {
		return KeySet{}, fmt.Errorf("%w: no keys", ErrKeySet)
	}
	var s KeySet
	for i, j := range raw.Keys {
		k, err := j.parse()
		if err == nil {
			err = s.add(k)
		}
		if err != nil {
			return KeySet{}, fmt.Errorf("keys[%d]: %w", i, err)
		}
	}
	return s, nil
}

// MarshalJSON returns the JSON Web Key Set.
func (s KeySet) MarshalJSON() ([]byte, error) {
	out := jwks{Keys: make([]jwk, len(s.keys))}
	for i, k := range s.keys {
		out.Keys[i] = k.jwk
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what [ParseJWKS] accepts.
func (s *KeySet) UnmarshalJSON(b []byte) error {
	parsed, err := ParseJWKS(b)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// IDs returns the kid of every key, in the order of the set.
func (s KeySet) IDs() []string {
	ids := make([]string, len(s.keys))
	for i, k := range s.keys {
		ids[i] = k.id
	}
	return ids
}

func (s *KeySet) add(k tokenKey) error {
	if len(s.keys) == MaxJWKSKeys {
		return fmt.Errorf("%w: more than %d keys", ErrKeySet, MaxJWKSKeys)
	}
	if _, twice := s.find(k.id); twice {
		return fmt.Errorf("%w: a key is listed twice", ErrKeySet)
	}
	s.keys = append(s.keys, k)
	return nil
}

func (s KeySet) find(id string) (tokenKey, bool) {
	for _, k := range s.keys {
		if k.id == id {
			return k, true
		}
	}
	return tokenKey{}, false
}

// Thumbprint returns the RFC 7638 SHA-256 thumbprint of a P-256 or P-384 key,
// base64url: the kid of results signed with it.
func Thumbprint(k *ecdsa.PublicKey) (string, error) {
	t, err := newTokenKey(k)
	return t.id, err
}

func newTokenKey(k *ecdsa.PublicKey) (tokenKey, error) {
	if k == nil || k.Curve == nil {
		return tokenKey{}, fmt.Errorf("%w: no key", ErrKeySet)
	}
	for _, a := range algorithms() {
		if k.Curve != a.curve {
			continue
		}
		point, err := k.Bytes() // refuses points that are not on the curve
		if err != nil {
			return tokenKey{}, fmt.Errorf("%w: %v", ErrKeySet, err)
		}
		t := tokenKey{alg: a, public: k}
		t.jwk = jwk{Kty: "EC", Crv: a.crv, X: encode64(point[1 : 1+a.size]), Y: encode64(point[1+a.size:]), Use: "sig", Alg: a.name}
		// RFC 7638 section 3.2: the required members in lexicographic order.
		d := sha256.Sum256([]byte(`{"crv":"` + t.jwk.Crv + `","kty":"EC","x":"` + t.jwk.X + `","y":"` + t.jwk.Y + `"}`))
		t.id = encode64(d[:])
		t.jwk.Kid = t.id
		return t, nil
	}
	return tokenKey{}, fmt.Errorf("%w: want a P-256 or P-384 key", ErrKeySet)
}

// parse checks one key of a set. No error repeats what the set says.
func (j jwk) parse() (tokenKey, error) {
	k, err := j.public()
	if err != nil {
		return tokenKey{}, err
	}
	if j.Kid != k.id {
		return tokenKey{}, fmt.Errorf("%w: kid is not the thumbprint of its key", ErrKeySet)
	}
	if j.Use != "" && j.Use != "sig" {
		return tokenKey{}, fmt.Errorf("%w: use: want \"sig\"", ErrKeySet)
	}
	if j.Alg != "" && j.Alg != k.alg.name {
		return tokenKey{}, fmt.Errorf("%w: alg: want %s for this key", ErrKeySet, k.alg.name)
	}
	return k, nil
}

// public reads the key itself, whatever else the JSON says about it.
func (j jwk) public() (tokenKey, error) {
	if j.Kty != "EC" {
		return tokenKey{}, fmt.Errorf("%w: kty: want \"EC\"", ErrKeySet)
	}
	for _, a := range algorithms() {
		if j.Crv != a.crv {
			continue
		}
		x, okX := decode64(j.X)
		y, okY := decode64(j.Y)
		if !okX || !okY || len(x) != a.size || len(y) != a.size {
			return tokenKey{}, fmt.Errorf("%w: coordinates: want %d bytes each, base64url", ErrKeySet, a.size)
		}
		k, err := ecdsa.ParseUncompressedPublicKey(a.curve, append(append([]byte{4}, x...), y...))
		if err != nil {
			return tokenKey{}, fmt.Errorf("%w: the point is not on its curve", ErrKeySet)
		}
		return newTokenKey(k)
	}
	return tokenKey{}, fmt.Errorf("%w: crv: want \"P-256\" or \"P-384\"", ErrKeySet)
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode64 reads unpadded base64url in its one canonical form, so that no two
// spellings of a token mean the same.
func decode64(s string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return b, err == nil && encode64(b) == s
}
