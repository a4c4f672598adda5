package refvalues

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
)

// payloadType is the type of in-toto statements in DSSE envelopes.
const payloadType = "application/vnd.in-toto+json"

const maxSignatures = 16

// openDSSE returns the payload of a DSSE envelope (secure-systems-lab/dsse,
// envelope.md) that one of the keys signed. Key identifiers in the envelope are
// hints that nobody signed: every signature is tried with every key.
func openDSSE(b []byte, keys []crypto.PublicKey) ([]byte, error) {
	m, err := members(b, "payload", "payloadType", "signatures")
	if err != nil {
		return nil, malformed("envelope: %v", err)
	}
	typ, err := text(m, "payloadType", maxText)
	if err != nil || typ != payloadType {
		return nil, malformed("envelope: payloadType is not %q", payloadType)
	}
	encoded, err := text(m, "payload", MaxDocument)
	if err != nil {
		return nil, malformed("envelope: %v", err)
	}
	payload, err := decodeBase64(encoded)
	if err != nil {
		return nil, malformed("envelope: payload: %v", err)
	}
	signatures, err := list(m, "signatures", maxSignatures)
	if err != nil {
		return nil, malformed("envelope: %v", err)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("%w: pass 1 to %d keys", ErrNotTrusted, maxKeys)
	}
	signed := pae(typ, payload)
	for i, raw := range signatures {
		sig, err := signature(raw)
		if err != nil {
			return nil, malformed("envelope: signatures[%d]: %v", i, err)
		}
		if slices.ContainsFunc(keys, func(k crypto.PublicKey) bool { return verify(k, signed, sig) }) {
			return payload, nil
		}
	}
	return nil, fmt.Errorf("%w: none of %d signatures is by one of %d keys", ErrNotTrusted, len(signatures), len(keys))
}

func signature(raw json.RawMessage) ([]byte, error) {
	m, err := members(raw, "keyid", "sig", "extension")
	if err != nil {
		return nil, err
	}
	if _, ok := m["extension"]; ok {
		return nil, fmt.Errorf("extensions are not supported")
	}
	s, err := text(m, "sig", 4096)
	if err != nil {
		return nil, err
	}
	return decodeBase64(s)
}

// pae is the pre-authentication encoding of DSSE.
func pae(typ string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(typ), typ, len(payload)), payload...)
}

// verify checks a signature with the one algorithm that each kind of key has
// here: Ed25519, ES256 for P-256, ES384 for P-384. ECDSA signatures are DER or,
// as in JOSE, r and s at full length.
func verify(key crypto.PublicKey, signed, sig []byte) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, signed, sig)
	case *ecdsa.PublicKey:
		var digest []byte
		switch k.Curve {
		case elliptic.P256():
			d := sha256.Sum256(signed)
			digest = d[:]
		case elliptic.P384():
			d := sha512.Sum384(signed)
			digest = d[:]
		default:
			return false
		}
		if size := len(digest); len(sig) == 2*size {
			r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
			if ecdsa.Verify(k, digest, r, s) {
				return true
			}
		}
		return ecdsa.VerifyASN1(k, digest, sig)
	}
	return false
}
