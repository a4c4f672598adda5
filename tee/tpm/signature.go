package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// Scheme is a TPM_ALG_ID of a signature scheme.
type Scheme uint16

// The schemes that are accepted.
const (
	RSASSA Scheme = 0x0014 // PKCS #1 v1.5
	RSAPSS Scheme = 0x0016
	ECDSA  Scheme = 0x0018
)

// String is the name in claims.
func (s Scheme) String() string {
	switch s {
	case RSASSA:
		return "rsassa"
	case RSAPSS:
		return "rsapss"
	case ECDSA:
		return "ecdsa"
	default:
		return fmt.Sprintf("scheme %#x", uint16(s))
	}
}

// Signature is a parsed TPMT_SIGNATURE.
type Signature struct {
	Scheme Scheme
	Hash   eventlog.Algorithm
	RSA    []byte   // of RSASSA and RSAPSS
	R, S   *big.Int // of ECDSA
}

// ParseSignature reads a TPMT_SIGNATURE (part 2, section "TPMT_SIGNATURE"). It
// refuses other schemes, and hashes that are not known (CodeUnsupported). That
// SHA-1 is not good enough is said when the signature is verified. Errors are
// *tee.VerifyError.
func ParseSignature(b []byte) (*Signature, error) {
	r := reader{b: bytes.Clone(b)}
	s := &Signature{Scheme: Scheme(r.u16()), Hash: eventlog.Algorithm(r.u16())}
	switch {
	case r.err != nil:
	case !s.Hash.Known():
		return nil, unsupported("signature", fmt.Sprintf("one of %v", eventlog.Algorithms()), s.Hash.String())
	case s.Scheme == RSASSA || s.Scheme == RSAPSS:
		s.RSA = r.sized(maxKeyBytes)
	case s.Scheme == ECDSA:
		s.R, s.S = new(big.Int).SetBytes(r.sized(66)), new(big.Int).SetBytes(r.sized(66))
	default:
		return nil, unsupported("signature", "rsassa, rsapss or ecdsa", s.Scheme.String())
	}
	if err := r.end(); err != nil {
		return nil, malformed("signature", "TPMT_SIGNATURE", err)
	}
	return s, nil
}

// check verifies a signature over message. SHA-1 is refused, and the signature
// verified all the same, to list everything.
func (s *Signature) check(key crypto.PublicKey, message []byte) []tee.Failure {
	var failures []tee.Failure
	if s.Hash == eventlog.SHA1 {
		failures = append(failures, tee.Failure{Code: tee.CodeUnsupported, Claim: "signature", Want: "SHA-256 or better", Got: "sha1",
			Hint: "create the attestation key with another scheme: with SHA-1 two quotes can be made that have one signature"})
	}
	good := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		digest := s.Hash.Sum(message)
		switch s.Scheme {
		case RSASSA:
			good = rsa.VerifyPKCS1v15(k, s.Hash.Hash(), digest, s.RSA) == nil
		case RSAPSS:
			// A TPM takes as much salt as fits, or as long as the hash.
			good = rsa.VerifyPSS(k, s.Hash.Hash(), digest, s.RSA, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		default: // is none of RSA
		}
	case *ecdsa.PublicKey:
		good = s.Scheme == ECDSA && ecdsa.Verify(k, s.Hash.Sum(message), s.R, s.S)
	}
	if !good {
		failures = append(failures, tee.Failure{Code: tee.CodeSignature, Claim: "signature", Want: "by the attestation key", Got: "not by it", Hint: "the quote was altered, or another key signed it"})
	}
	return failures
}

// checkKey says why a key is not good enough, or nil.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8*maxKeyBytes || k.E < 3 || k.E&1 == 0 {
			return fmt.Errorf("RSA key of %d bits with exponent %d", n, k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return fmt.Errorf("ECDSA key on %s", k.Curve.Params().Name)
		}
		return nil
	default:
		return fmt.Errorf("key of type %T", key)
	}
}

// sameKey reports whether two public keys are one.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
