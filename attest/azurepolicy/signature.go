package azurepolicy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // hashOf returns them
	_ "crypto/sha512" // hashOf returns them
	"crypto/x509"
	"fmt"
	"math/big"

	"github.com/cloister-cc/cloister/attest/term"
)

const algNone = "none"

// Sizes of RSA keys that are accepted, in bits.
const (
	minRSA = 2048
	maxRSA = 8192
)

func clip(s string) string { return term.Clean(s, 64) }

func knownAlg(alg string) bool {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512":
		return true
	}
	return false
}

func hashOf(alg string) crypto.Hash {
	switch alg[2:] {
	case "384":
		return crypto.SHA384
	case "512":
		return crypto.SHA512
	}
	return crypto.SHA256
}

// sameKey compares the public keys of two certificates exactly.
func sameKey(a, b *x509.Certificate) bool {
	if a == nil || b == nil {
		return false
	}
	switch k := a.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.Equal(b.PublicKey)
	case *ecdsa.PublicKey:
		return k.Equal(b.PublicKey)
	}
	return false
}

// verify checks the signature with the key of the certificate. The kind of key
// decides which algorithms there can be (RFC 7518 section 3), so that no key is
// used with an algorithm that it was not made for.
func (e *envelope) verify() error {
	h := hashOf(e.alg)
	digest := h.New()
	digest.Write([]byte(e.input))
	sum := digest.Sum(nil)
	switch k := e.certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		return e.verifyRSA(k, h, sum)
	case *ecdsa.PublicKey:
		if curve(e.alg) != k.Curve {
			return refuse(fmt.Sprintf("alg %s does not fit the certificate's key", e.alg), "")
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		if len(e.signature) != 2*size {
			return refuse("the signature has the wrong length", "ES algorithms sign r and s, each of the curve's size")
		}
		r, s := new(big.Int).SetBytes(e.signature[:size]), new(big.Int).SetBytes(e.signature[size:])
		if !ecdsa.Verify(k, sum, r, s) {
			return refuse("the signature does not verify", "")
		}
		return nil
	}
	return refuse("the certificate's key is neither RSA nor ECDSA", "")
}

func curve(alg string) elliptic.Curve {
	switch alg {
	case "ES256":
		return elliptic.P256()
	case "ES384":
		return elliptic.P384()
	case "ES512":
		return elliptic.P521()
	}
	return nil
}

func (e *envelope) verifyRSA(k *rsa.PublicKey, h crypto.Hash, sum []byte) error {
	if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
		return refuse(fmt.Sprintf("an RSA key of %d bits, want %d to %d", bits, minRSA, maxRSA), "")
	}
	var err error
	switch e.alg[:2] {
	case "RS":
		err = rsa.VerifyPKCS1v15(k, h, sum, e.signature)
	case "PS":
		err = rsa.VerifyPSS(k, h, sum, e.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		return refuse(fmt.Sprintf("alg %s does not fit the certificate's key", e.alg), "")
	}
	if err != nil {
		return refuse("the signature does not verify", "")
	}
	return nil
}
