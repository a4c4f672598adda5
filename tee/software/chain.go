package software

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/veraison/go-cose"
)

// oidAttest is the extended key usage of platform certificates:
// tcg-dice-kp-attestLoc of the TCG DICE Attestation Architecture, "this key
// signs evidence".
var oidAttest = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 100, 9}

// hintRoots is the next step of someone whose roots do not fit.
const hintRoots = "name the platform's development root: --roots DATA/platform/root.pem"

// platformKey is what a verified platform certificate stands for.
type platformKey struct {
	id                  [32]byte // SHA-256 of the public key (SPKI DER)
	verifier            cose.Verifier
	notBefore, notAfter time.Time // of the whole chain
}

func (k *platformKey) validAt(at time.Time) bool {
	return !at.Before(k.notBefore) && !at.After(k.notAfter)
}

// verifyChain verifies that der is a platform certificate directly below one of
// the roots at the given time, and fit to sign evidence and nothing else.
func verifyChain(der []byte, roots tee.Roots, at time.Time) (*platformKey, *tee.Failure) {
	refuse := func(code tee.Code, want, got, hint string) (*platformKey, *tee.Failure) {
		return nil, &tee.Failure{Code: code, Claim: "platform certificate", Want: want, Got: got, Hint: hint}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return refuse(tee.CodeParse, "a DER certificate", printable(err.Error()), "")
	}
	if problem := unfit(cert); problem != "" {
		return refuse(tee.CodeChain, "a certificate for signing evidence", problem, "")
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		if r != nil {
			pool.AddCert(r)
		}
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // checked by unfit
	})
	if err != nil {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return refuse(tee.CodeExpired, "valid at "+at.UTC().Format(time.RFC3339), printable(invalid.Detail), "")
		}
		return refuse(tee.CodeChain, "issued by a given root", printable(err.Error()), hintRoots)
	}
	for _, chain := range chains {
		// No intermediates, and a trust anchor must be a CA: the certificate that
		// signs evidence is never its own root.
		if len(chain) == 2 && chain[1].BasicConstraintsValid && chain[1].IsCA {
			return newPlatformKey(chain)
		}
	}
	return refuse(tee.CodeChain, "issued by a given root that is a CA", "no such chain", hintRoots)
}

// unfit says why a certificate must not sign evidence, "" if it may.
func unfit(c *x509.Certificate) string {
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || pub.Curve != elliptic.P256():
		return "its key is not P-256"
	case !c.BasicConstraintsValid || c.IsCA:
		return "it is a certificate authority, or does not say that it is none"
	case c.KeyUsage != x509.KeyUsageDigitalSignature:
		return "its key usage is not digitalSignature alone"
	case len(c.ExtKeyUsage) != 0 || len(c.UnknownExtKeyUsage) != 1 || !c.UnknownExtKeyUsage[0].Equal(oidAttest):
		return "its extended key usage is not attestation alone"
	}
	return ""
}

func newPlatformKey(chain []*x509.Certificate) (*platformKey, *tee.Failure) {
	leaf, root := chain[0], chain[1]
	v, err := cose.NewVerifier(cose.AlgorithmES256, leaf.PublicKey)
	if err != nil {
		return nil, &tee.Failure{Code: tee.CodeUnsupported, Claim: "platform certificate", Got: printable(err.Error())}
	}
	k := &platformKey{id: sha256.Sum256(leaf.RawSubjectPublicKeyInfo), verifier: v, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	if root.NotBefore.After(k.notBefore) {
		k.notBefore = root.NotBefore
	}
	if root.NotAfter.Before(k.notAfter) {
		k.notAfter = root.NotAfter
	}
	return k, nil
}

// chainCache remembers platform certificates that verified, by their digest and
// that of the roots. Only successes enter, so a stranger cannot fill it; what
// it answers is what verifyChain would.
type chainCache struct {
	mu    sync.Mutex
	keys  map[[32]byte]*platformKey
	order [][32]byte // oldest first
}

// maxChains bounds the cache.
const maxChains = 256

// lookup returns the key of a platform certificate, verified now or before.
func (c *chainCache) lookup(der []byte, roots tee.Roots, at time.Time) (*platformKey, *tee.Failure) {
	id := chainID(der, roots)
	c.mu.Lock()
	k := c.keys[id]
	c.mu.Unlock()
	if k != nil && k.validAt(at) {
		return k, nil
	}
	k, failure := verifyChain(der, roots, at)
	if failure != nil {
		return nil, failure
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = make(map[[32]byte]*platformKey)
	}
	if _, known := c.keys[id]; !known {
		if len(c.order) >= maxChains {
			delete(c.keys, c.order[0])
			c.order = slices.Delete(c.order, 0, 1)
		}
		c.order = append(c.order, id)
	}
	c.keys[id] = k
	return k, nil
}

// chainID is the digest of a certificate and a list of roots; each part is
// preceded by its length, so no two lists collide.
func chainID(der []byte, roots tee.Roots) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d:", len(der))
	h.Write(der)
	for _, r := range roots {
		if r != nil {
			fmt.Fprintf(h, "%d:", len(r.Raw))
			h.Write(r.Raw)
		}
	}
	return [32]byte(h.Sum(nil))
}
