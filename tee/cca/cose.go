package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// algorithm is one of COSE (RFC 9053 section 2.1) with the curve that it is used on
// here, and the one way to write it as a protected header.
type algorithm struct {
	name   string
	header []byte // the map {1: algorithm}
	curve  elliptic.Curve
	hash   func() hash.Hash
}

// algorithms are those that tokens may be signed with.
func algorithms() []algorithm {
	return []algorithm{
		{"ES256", []byte{0xA1, 0x01, 0x26}, elliptic.P256(), sha256.New},
		{"ES384", []byte{0xA1, 0x01, 0x38, 0x22}, elliptic.P384(), sha512.New384},
		{"ES512", []byte{0xA1, 0x01, 0x38, 0x23}, elliptic.P521(), sha512.New},
	}
}

// tagSign1 is the CBOR tag of COSE_Sign1 (RFC 9052 section 2).
const tagSign1 = 0xD2

// decoding is the CBOR mode of everything that is read here, made once: nothing
// that can be written in two ways. Members of claims that are not known are
// ignored: they are signed, and profiles add some.
var decoding = sync.OnceValue(func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   6,
		MaxArrayElements:  maxComponents,
		MaxMapPairs:       maxComponents,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
})

// signed is a token: COSE_Sign1 (RFC 9052 section 4.2), tagged, with the algorithm
// as its only header.
type signed struct {
	algorithm algorithm
	payload   []byte
	signature []byte // r and s, big endian
}

// message is its form.
type message struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[uint64]cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

// errAlgorithm says that a token is signed in a way that is not known.
var errAlgorithm = errors.New("signed with another algorithm, or with other headers")

// parseSigned reads a token.
func parseSigned(b []byte) (*signed, error) {
	if len(b) == 0 || b[0] != tagSign1 {
		return nil, errors.New("no COSE_Sign1")
	}
	var m message
	if err := decoding().Unmarshal(b[1:], &m); err != nil {
		return nil, err
	}
	if len(m.Payload) == 0 || m.Unprotected == nil {
		return nil, errors.New("COSE_Sign1 without a payload or headers")
	}
	if len(m.Unprotected) > 0 {
		return nil, errAlgorithm
	}
	for _, a := range algorithms() {
		if !bytes.Equal(a.header, m.Protected) {
			continue
		}
		if n := 2 * scalarSize(a.curve); len(m.Signature) != n {
			return nil, fmt.Errorf("signature of %d bytes, want %d", len(m.Signature), n)
		}
		return &signed{algorithm: a, payload: m.Payload, signature: m.Signature}, nil
	}
	return nil, errAlgorithm
}

func scalarSize(c elliptic.Curve) int { return (c.Params().BitSize + 7) / 8 }

// by verifies the signature over the Sig_structure (RFC 9052 section 4.4), by a key
// on the algorithm's curve.
func (s *signed) by(key *ecdsa.PublicKey) bool {
	if key == nil || key.Curve != s.algorithm.curve {
		return false
	}
	structure, err := cbor.Marshal([]any{"Signature1", s.algorithm.header, []byte{}, s.payload})
	if err != nil {
		return false
	}
	h := s.algorithm.hash()
	h.Write(structure)
	n := scalarSize(key.Curve)
	return ecdsa.Verify(key, h.Sum(nil), new(big.Int).SetBytes(s.signature[:n]), new(big.Int).SetBytes(s.signature[n:]))
}

// coseKey is a COSE_Key on a curve (RFC 9053 section 7.1.1).
type coseKey struct {
	Type      int    `cbor:"1,keyasint"`
	KeyID     []byte `cbor:"2,keyasint"`
	Algorithm int    `cbor:"3,keyasint"`
	Curve     int    `cbor:"-1,keyasint"`
	X         []byte `cbor:"-2,keyasint"`
	Y         []byte `cbor:"-3,keyasint"`
}

// parseKey reads a realm's key. It refuses points that are not on their curve.
func parseKey(b []byte) (*ecdsa.PublicKey, error) {
	var k coseKey
	if err := decoding().Unmarshal(b, &k); err != nil {
		return nil, err
	}
	curves := map[int]elliptic.Curve{1: elliptic.P256(), 2: elliptic.P384(), 3: elliptic.P521()}
	curve := curves[k.Curve]
	if k.Type != 2 || curve == nil {
		return nil, fmt.Errorf("key of type %d on curve %d", k.Type, k.Curve)
	}
	n := scalarSize(curve)
	if len(k.X) != n || len(k.Y) != n {
		return nil, errors.New("coordinates of another size")
	}
	return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, k.X...), k.Y...))
}
