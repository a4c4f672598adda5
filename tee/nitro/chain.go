package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// chain is what leads from a root to the key that signed a document.
type chain struct {
	root     *x509.Certificate // nil: no trusted one
	issuers  []*x509.Certificate
	leaf     *x509.Certificate
	failures []tee.Failure
	findings []tee.Finding
}

func (c *chain) fail(code tee.Code, claim, want, got, hint string) {
	c.failures = append(c.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

// anchors returns the trusted roots: Input.Roots, or AWS's.
func anchors(roots tee.Roots) ([]*x509.Certificate, *tee.Failure) {
	if roots == nil {
		r, err := embeddedRoot()
		if err != nil {
			return nil, &tee.Failure{Code: tee.CodeChain, Claim: "roots", Got: err.Error(), Hint: "this build is defective"}
		}
		return []*x509.Certificate{r}, nil
	}
	var out []*x509.Certificate
	for _, r := range roots {
		if r != nil {
			out = append(out, r)
		}
	}
	if len(out) == 0 || len(out) > maxRoots {
		return nil, &tee.Failure{Code: tee.CodeChain, Claim: "roots", Want: fmt.Sprintf("1 to %d", maxRoots), Got: fmt.Sprint(len(out)), Hint: "leave the roots out to use the embedded one"}
	}
	return out, nil
}

// checkChain follows the bundle from the root to the document's certificate. AWS
// orders it so: the root, then each issued by the one before. Nothing is searched
// for: a bundle in another order does not verify.
func (v *Verifier) checkChain(d *Document, in tee.Input) *chain {
	c := &chain{}
	roots, failure := anchors(in.Roots)
	if failure != nil {
		c.failures = append(c.failures, *failure)
	}
	rest := c.start(d.CABundle, roots)
	if len(c.issuers) == 0 {
		return c // not even a certificate to begin with
	}
	id := digest(sha256.Sum256(c.issuers[0].Raw))
	for _, der := range rest {
		id = digestOf(id, der)
		if !v.step(c, id, der) {
			return c
		}
	}
	c.addLeaf(d.Certificate)
	c.checkPathLengths()
	if !in.At.IsZero() { // else nothing can be said, and Verify has
		c.checkValidity(in.At)
	}
	v.lists.check(c, in)
	return c
}

// start takes the first certificate: a trusted root itself, or one that a trusted
// root issued. Without either it goes on with what the bundle says, to list what
// else is wrong.
func (c *chain) start(bundle [][]byte, roots []*x509.Certificate) (rest [][]byte) {
	for _, r := range roots {
		if bytes.Equal(r.Raw, bundle[0]) {
			c.root, c.issuers = r, []*x509.Certificate{r}
			return bundle[1:]
		}
	}
	first, err := x509.ParseCertificate(bundle[0])
	if err != nil {
		c.unreadable("cabundle", err)
		return nil
	}
	for _, r := range roots {
		if issued(first, r) == nil {
			c.root, c.issuers = r, []*x509.Certificate{r}
			return bundle
		}
	}
	c.fail(tee.CodeChain, "cabundle", "a trusted root, or issued by one", fmt.Sprintf("%s with fingerprint %s", commonName(first), fingerprint(first.Raw)),
		"the name does not matter: only AWS's own certificate, or the roots that you gave, do")
	c.issuers = []*x509.Certificate{first}
	return bundle[1:]
}

// step adds an issuing certificate. What verified under a trusted root is
// remembered by the certificates from the root to it, so a stranger cannot make
// the verifier remember his.
func (v *Verifier) step(c *chain, id digest, der []byte) bool {
	if cert, ok := v.issuers.get(id); ok {
		c.issuers = append(c.issuers, cert)
		return true
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.unreadable("cabundle", err)
		return false
	}
	good := c.root != nil && len(c.failures) == 0
	if err := issued(cert, c.last()); err != nil {
		c.fail(tee.CodeChain, "cabundle", "issued by "+commonName(c.last()), fmt.Sprintf("%s: %.200s", commonName(cert), err.Error()), "")
		good = false
	}
	if good && cert.IsCA {
		v.issuers.put(id, cert, maxRemembered)
	}
	c.issuers = append(c.issuers, cert)
	return true
}

func (c *chain) last() *x509.Certificate { return c.issuers[len(c.issuers)-1] }

func (c *chain) unreadable(claim string, err error) {
	c.fail(tee.CodeParse, claim, "a DER certificate", fmt.Sprintf("%.200q", err.Error()), "")
}

// addLeaf reads the certificate whose key signed the document.
func (c *chain) addLeaf(der []byte) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		c.unreadable("certificate", err)
		return
	}
	if err := issued(leaf, c.last()); err != nil {
		c.fail(tee.CodeChain, "certificate", "issued by "+commonName(c.last()), fmt.Sprintf("%s: %.200s", commonName(leaf), err.Error()), "")
	}
	if leaf.IsCA {
		c.fail(tee.CodeChain, "certificate", "not a certificate authority", commonName(leaf), "an authority's key must not sign documents")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		c.fail(tee.CodeChain, "certificate", "key usage digitalSignature", fmt.Sprintf("%#x", int(leaf.KeyUsage)), "")
	}
	if keyOf(leaf) == nil {
		c.fail(tee.CodeUnsupported, "certificate", "a P-384 key", leaf.PublicKeyAlgorithm.String(), "")
		return
	}
	c.leaf = leaf
}

// keyOf is the certificate's key if it is P-384, which all of AWS's are.
func keyOf(c *x509.Certificate) *ecdsa.PublicKey {
	if k, ok := c.PublicKey.(*ecdsa.PublicKey); ok && k.Curve == elliptic.P384() {
		return k
	}
	return nil
}

// checkPathLengths wants no more authorities below each than it may have (RFC
// 5280 section 4.2.1.9).
func (c *chain) checkPathLengths() {
	for i, issuer := range c.issuers {
		limited := issuer.BasicConstraintsValid && (issuer.MaxPathLen > 0 || issuer.MaxPathLenZero)
		if below := len(c.issuers) - 1 - i; limited && below > issuer.MaxPathLen {
			c.fail(tee.CodeChain, "cabundle", fmt.Sprintf("at most %d authorities below %s", issuer.MaxPathLen, commonName(issuer)), fmt.Sprint(below), "")
		}
	}
}

func (c *chain) checkValidity(at time.Time) {
	certs := slices.Clone(c.issuers)
	if c.leaf != nil {
		certs = append(certs, c.leaf)
	}
	for _, cert := range certs {
		if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
			c.fail(tee.CodeExpired, commonName(cert), "valid at "+stamp(at), "valid from "+stamp(cert.NotBefore)+" to "+stamp(cert.NotAfter),
				"certificates of documents are valid for hours: verify a document when it is fresh")
		}
	}
}

// issued says why parent did not issue child, or must not have. It does not
// depend on the time, so that it can be remembered. All of AWS's signatures are
// ECDSA with SHA-384 by P-384 keys.
func issued(child, parent *x509.Certificate) error {
	switch {
	case !bytes.Equal(child.RawIssuer, parent.RawSubject):
		return errors.New("names another issuer")
	case child.SignatureAlgorithm != x509.ECDSAWithSHA384 || keyOf(parent) == nil:
		return fmt.Errorf("is signed with %s and not by P-384 with SHA-384", child.SignatureAlgorithm)
	case !parent.BasicConstraintsValid || !parent.IsCA || parent.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its issuer is not a certificate authority")
	case len(child.UnhandledCriticalExtensions) > 0 || len(parent.UnhandledCriticalExtensions) > 0 || constrained(parent):
		return errors.New("it or its issuer has a critical extension that is not known here")
	}
	return child.CheckSignatureFrom(parent)
}

// constrained reports whether a certificate limits the names below it, which no
// certificate of AWS's does and nothing here would check.
func constrained(c *x509.Certificate) bool {
	return c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0 ||
		len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
}

// commonName makes a name from outside printable and short.
func commonName(c *x509.Certificate) string { return fmt.Sprintf("%.80q", c.Subject.CommonName) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
