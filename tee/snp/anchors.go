package snp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// anchors are the certificates that the relying party trusts: roots, and
// signing certificates under them. They never change once made.
type anchors struct {
	id             digest
	roots, signers []*x509.Certificate
	issuers        []*issuer // signers that a root issued
}

// issuer is a signing certificate (ASK or ASVK) and the root that issued it. The
// signature is verified; whether both are valid at a time is not.
type issuer struct {
	signer, root *x509.Certificate
	rootID       digest
}

// anchorCache remembers anchors by the roots that they were made from. The
// caller chooses roots, not a stranger, so it may hold any that were given.
type anchorCache struct{ memo[*anchors] }

// lookup returns the anchors for Input.Roots, AMD's if it is nil.
func (c *anchorCache) lookup(roots tee.Roots) (*anchors, *tee.Failure) {
	var id digest // of no roots: the embedded ones
	for _, r := range roots {
		if r != nil {
			sum := sha256.Sum256(r.Raw)
			id = digestOf(id, sum[:])
		}
	}
	if roots != nil && id == (digest{}) {
		return nil, &tee.Failure{Code: tee.CodeChain, Claim: "roots", Want: "a root of AMD's chip keys", Got: "none", Hint: "leave the roots out to use the embedded ones"}
	}
	if a, ok := c.get(id); ok {
		return a, nil
	}
	a := &anchors{}
	if roots == nil {
		embedded, err := embeddedCertificates()
		if err != nil {
			return nil, &tee.Failure{Code: tee.CodeChain, Claim: "roots", Got: err.Error(), Hint: "this build is defective"}
		}
		roots = embedded
	}
	a.id = id
	a.add(roots)
	c.put(id, a, maxAnchors)
	return a, nil
}

// add sorts trust anchors: self-signed ones are roots, the others signing
// certificates, which count only if one of the roots issued them.
func (a *anchors) add(certs []*x509.Certificate) {
	seen := make(map[digest]bool)
	for _, c := range certs {
		if c == nil || seen[sha256.Sum256(c.Raw)] {
			continue
		}
		seen[sha256.Sum256(c.Raw)] = true
		if bytes.Equal(c.RawSubject, c.RawIssuer) {
			a.roots = append(a.roots, c)
		} else {
			a.signers = append(a.signers, c)
		}
	}
	for _, s := range a.signers {
		a.issuers = append(a.issuers, a.issuersOf(s)...)
	}
}

// issuersOf returns the signing certificate with each root that issued it.
func (a *anchors) issuersOf(signer *x509.Certificate) []*issuer {
	var out []*issuer
	for _, root := range a.roots {
		if issued(signer, root) == nil {
			out = append(out, &issuer{signer: signer, root: root, rootID: sha256.Sum256(root.Raw)})
		}
	}
	return out
}

// issued says why parent did not issue child, or must not have. Every
// certificate of AMD's chains is signed with RSA-PSS and SHA-384 (57230, section
// "Certificate chain"). Both have a fixed place here, which is why this does not
// need the path building of [x509.Certificate.Verify], and can be remembered,
// as it does not depend on the time.
func issued(child, parent *x509.Certificate) error {
	switch {
	case !bytes.Equal(child.RawIssuer, parent.RawSubject):
		return fmt.Errorf("issuer is %s", commonName(child.Issuer.CommonName))
	case child.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return fmt.Errorf("signature algorithm is %s", child.SignatureAlgorithm)
	case !parent.BasicConstraintsValid || !parent.IsCA || parent.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("issuer is not a certificate authority")
	case child.IsCA && parent.MaxPathLenZero && parent.MaxPathLen == 0:
		return errors.New("issuer may not issue certificate authorities")
	case len(child.UnhandledCriticalExtensions) > 0 || len(parent.UnhandledCriticalExtensions) > 0:
		return errors.New("a critical extension is not known")
	}
	return child.CheckSignatureFrom(parent)
}

// commonName makes a name from outside printable and short.
func commonName(s string) string { return fmt.Sprintf("%.64q", s) }
