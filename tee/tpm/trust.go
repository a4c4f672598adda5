package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// TrustedAK is the name in Endorsements.Collateral of the attestation keys that
// the relying party enrolled: PEM blocks PUBLIC KEY (PKIX), nothing else, at most
// 1024. Put a key there only after its TPM activated a credential for its name
// ([MakeCredential]) under an endorsement key that you trust.
const TrustedAK = "tpm-ak.pem"

// How an attestation key was trusted, as claim ak_trust.
const (
	trustEnrolled    = "enrolled"
	trustCertificate = "certificate"
)

// attestationKey is the key that has to have signed a quote, and who says so.
type attestationKey struct {
	key    crypto.PublicKey // nil: there is none
	public *Public          // nil: not given
	trust  string
	// certificate says that the key is in an emulated TPM.
	emulated bool

	failures []tee.Failure
	findings []tee.Finding
}

func (a *attestationKey) fail(code tee.Code, claim, want, got, hint string) {
	a.failures = append(a.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

// keyOf finds the attestation key of a statement and checks whether it is one and
// who vouches for it.
func keyOf(s *Statement, ev tee.Evidence, in tee.Input, cache *keyCache) *attestationKey {
	a := &attestationKey{}
	if s.AKPublic != nil {
		p, err := ParsePublic(s.AKPublic)
		if err != nil {
			a.failures = append(a.failures, Failures(err)...)
		} else {
			a.public, a.key = p, p.Key
			a.failures = append(a.failures, p.CheckAK()...)
		}
	}
	cert := a.certificate(s, ev, in)
	if a.key == nil {
		if len(a.failures) == 0 {
			a.fail(tee.CodeChain, "attestation key", "its public area or certificate", "neither", "")
		}
		return a
	}
	enrolled, failure := cache.trustedKeys(in.Endorsements.Collateral)
	if failure != nil {
		a.failures = append(a.failures, *failure)
	}
	switch {
	case slices.ContainsFunc(enrolled, func(k crypto.PublicKey) bool { return sameKey(k, a.key) }):
		a.trust = trustEnrolled
	case cert != nil:
		a.trust, a.emulated = trustCertificate, tee.IsEmulatedTPM(cert)
		a.checkChain(cert, s, ev, in)
	default:
		a.fail(tee.CodeChain, "attestation key", "enrolled, or with a certificate", "neither",
			"give a certificate of the key and its roots, or enrol the key ("+TrustedAK+")")
	}
	return a
}

// certificate finds the certificate of the attestation key: the statement's own,
// or the first among those beside it that is for the same key. The statement's
// must be for the key in its public area.
func (a *attestationKey) certificate(s *Statement, ev tee.Evidence, in tee.Input) *x509.Certificate {
	if s.AKCertificate != nil {
		c, err := parseCertificate(s.AKCertificate)
		switch {
		case err != nil:
			a.fail(tee.CodeParse, "ak_cert", "a DER certificate", fmt.Sprintf("%.200q", err.Error()), "")
			return nil
		case checkKey(c.PublicKey) != nil:
			a.fail(tee.CodeUnsupported, "ak_cert", "RSA of 2048 bits or more, or a NIST curve", checkKey(c.PublicKey).Error(), "")
			return nil
		case a.key != nil && !sameKey(a.key, c.PublicKey):
			a.fail(tee.CodeBinding, "ak_cert", "of the key in ak_public", "of another key", "")
			return nil
		}
		if s.AKPublic == nil {
			a.key = c.PublicKey
		}
		return c
	}
	if a.key == nil {
		return nil
	}
	for _, der := range certificates(s, ev, in) {
		if c, err := parseCertificate(der); err == nil && !c.IsCA && sameKey(a.key, c.PublicKey) {
			return c
		}
	}
	return nil
}

// certificates are all that came with the evidence or the endorsements.
func certificates(s *Statement, ev tee.Evidence, in tee.Input) [][]byte {
	return slices.Concat(s.Certificates, ev.Certificates, in.Endorsements.Certificates)
}

func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("%d bytes", len(der))
	}
	return x509.ParseCertificate(der)
}

// keyCache remembers the enrolled keys that were read last, by the digest of their
// document: a relying party has one, and reading a thousand keys takes much longer
// than verifying a quote. The caller gives it, not the attester.
type keyCache struct {
	mu   sync.Mutex
	id   [sha256.Size]byte
	keys []crypto.PublicKey // never changed once they are here
}

// trustedKeys reads the enrolled keys. A document that cannot be read is a
// failure: who altered it may have wanted to add one.
func (c *keyCache) trustedKeys(collateral map[string][]byte) ([]crypto.PublicKey, *tee.Failure) {
	b, ok := collateral[TrustedAK]
	if !ok {
		return nil, nil
	}
	id := sha256.Sum256(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys != nil && c.id == id {
		return c.keys, nil
	}
	keys, err := parseKeys(b)
	if err != nil {
		return nil, &tee.Failure{Code: tee.CodeParse, Claim: TrustedAK, Want: "PEM blocks PUBLIC KEY", Got: fmt.Sprintf("%.200s", err.Error())}
	}
	c.id, c.keys = id, keys
	return keys, nil
}

func parseKeys(b []byte) ([]crypto.PublicKey, error) {
	if len(b) > maxTrustedPEM {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxTrustedPEM)
	}
	var keys []crypto.PublicKey
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" || len(keys) == maxTrusted {
			return nil, fmt.Errorf("block %.32q, or more than %d", block.Type, maxTrusted)
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if err := checkKey(k); err != nil {
			return nil, err
		}
		keys, b = append(keys, k), rest
	}
	if len(keys) == 0 || len(bytes.TrimSpace(b)) > 0 {
		return nil, errors.New("no keys, or bytes after them")
	}
	return keys, nil
}

// KeyID names a key: the SHA-256 of its PKIX form in hex, empty for a key that has
// none. It is what claims of a TPM have as Platform.
func KeyID(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
