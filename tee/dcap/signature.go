package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
)

// verifyRaw verifies an ECDSA P-256 signature with SHA-256 over message; sig is
// r and s, 32 bytes big endian each. r = 0 and s = 0 verify nothing.
func verifyRaw(key *ecdsa.PublicKey, message, sig []byte) bool {
	if key == nil || len(sig) != signatureSize {
		return false
	}
	sum := sha256.Sum256(message)
	der := make([]byte, 2, 2+2*(2+33))
	der = appendInteger(appendInteger(der, sig[:32]), sig[32:])
	der[0], der[1] = 0x30, byte(len(der)-2)
	return ecdsa.VerifyASN1(key, sum[:], der)
}

// appendInteger appends a DER INTEGER of at most 33 bytes. (Not by way of
// big.Int, which allocates more than all the rest of a verification.)
func appendInteger(der, b []byte) []byte {
	if b = bytes.TrimLeft(b, "\x00"); len(b) == 0 {
		return append(der, 0x02, 1, 0)
	}
	if b[0] >= 0x80 {
		return append(append(der, 0x02, byte(len(b)+1), 0), b...)
	}
	return append(append(der, 0x02, byte(len(b))), b...)
}

// rawKey reads a P-256 key of X and Y. The point must be on the curve.
func rawKey(xy []byte) (*ecdsa.PublicKey, error) {
	if len(xy) != publicKeySize {
		return nil, errors.New("not 64 bytes")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, xy...))
}
