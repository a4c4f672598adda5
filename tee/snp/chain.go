package snp

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// leaf is a VCEK or VLEK certificate and the anchored signing certificates that
// issued it. It is a pure function of the certificate and the anchors.
type leaf struct {
	cert    *certificate
	key     *ecdsa.PublicKey
	x509    *x509.Certificate
	issuers []*issuer
}

// leafCache remembers leaves that an anchor vouches for, by certificate and
// anchors. A stranger cannot make such a certificate, so cannot fill it.
type leafCache struct{ memo[*leaf] }

// lookup reads a certificate. It returns neither a leaf nor a failure for one
// that is well-formed and no VCEK or VLEK, such as an ASK.
func (c *leafCache) lookup(der []byte, a *anchors) (*leaf, *tee.Failure) {
	id := digestOf(a.id, der)
	if l, ok := c.get(id); ok {
		return l, nil
	}
	cert, err := parseX509(der)
	if err != nil {
		return nil, unreadable(err)
	}
	if amdExtensions(cert) == nil {
		return nil, nil
	}
	parsed, err := parseCertificate(cert)
	if err != nil {
		return nil, unreadable(err)
	}
	l := &leaf{cert: parsed, key: cert.PublicKey.(*ecdsa.PublicKey), x509: cert}
	for _, i := range a.issuers {
		if issued(cert, i.signer) == nil {
			l.issuers = append(l.issuers, i)
		}
	}
	if len(l.issuers) > 0 {
		c.put(id, l, maxLeaves)
	}
	return l, nil
}

func parseX509(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("%d bytes", len(der))
	}
	return x509.ParseCertificate(der)
}

func unreadable(err error) *tee.Failure {
	return &tee.Failure{Code: tee.CodeParse, Claim: "certificates", Want: "a DER certificate of AMD", Got: fmt.Sprintf("%.200q", err.Error())}
}

// checkChain lists what is wrong between the leaf and a root. If several signing
// certificates issued the leaf, it takes the one with which least is wrong.
// Those that came with the evidence are tried only where the anchored ones do
// not do.
func (v *Verifier) checkChain(o *verdict, certs [][]byte, a *anchors, in tee.Input) {
	best := v.checkIssuers(o.leaf, o.leaf.issuers, in)
	if best == nil || len(best.failures) > 0 {
		if given := v.checkIssuers(o.leaf, givenIssuers(o.leaf, certs, a), in); given != nil && (best == nil || given.betterThan(best)) {
			best = given
		}
	}
	if best == nil {
		best = &verdict{failures: append(checkValidity(o.leaf.cert.SigningKey.String(), o.leaf.x509, in.At), noIssuer(o.leaf))}
	}
	o.failures = append(o.failures, best.failures...)
	o.findings = append(o.findings, best.findings...)
}

func (v *Verifier) checkIssuers(l *leaf, issuers []*issuer, in tee.Input) *verdict {
	var best *verdict
	for _, i := range issuers {
		o := &verdict{leaf: l}
		o.failures = append(o.failures, checkRole(l.cert, i)...)
		o.failures = append(o.failures, checkValidity(l.cert.SigningKey.String(), l.x509, in.At)...)
		o.failures = append(o.failures, checkValidity("signing certificate", i.signer, in.At)...)
		o.failures = append(o.failures, checkValidity("root", i.root, in.At)...)
		v.lists.check(o, i, in)
		if best == nil || o.betterThan(best) {
			best = o
		}
	}
	return best
}

// givenIssuers returns the signing certificates that came with the evidence or
// the endorsements, are not anchored themselves, and issued the leaf under an
// anchored root.
func givenIssuers(l *leaf, certs [][]byte, a *anchors) []*issuer {
	var out []*issuer
	for i, der := range certs {
		c, err := parseX509(der)
		if err != nil || amdExtensions(c) != nil || duplicate(certs, i) || issued(l.x509, c) != nil {
			continue
		}
		out = append(out, a.issuersOf(c)...)
	}
	return out
}

// checkRole lists in which way the chain is not the one for this kind of key of
// this product. VCEK and VLEK have different signing certificates, which differ
// in nothing but the name.
func checkRole(c *certificate, i *issuer) []tee.Failure {
	var failures []tee.Failure
	signer, root := i.signer.Subject.CommonName, i.root.Subject.CommonName
	if want := c.Product.issuer(c.SigningKey); signer != want {
		code := tee.CodeProduct
		if signer == c.Product.issuer(VCEK) || signer == c.Product.issuer(VLEK) {
			code = tee.CodeChain
		}
		failures = append(failures, tee.Failure{Code: code, Claim: "signing certificate", Want: want, Got: commonName(signer),
			Hint: "a " + c.SigningKey.String() + " has to come from the signing certificate for its kind and product"})
	}
	if want := c.Product.root(); root != want {
		failures = append(failures, tee.Failure{Code: tee.CodeProduct, Claim: "root", Want: want, Got: commonName(root)})
	}
	return failures
}

// checkValidity wants a certificate to be valid at a time. Without a time
// nothing can be said, and checkTime has.
func checkValidity(claim string, c *x509.Certificate, at time.Time) []tee.Failure {
	if at.IsZero() || !at.Before(c.NotBefore) && !at.After(c.NotAfter) {
		return nil
	}
	return []tee.Failure{{
		Code: tee.CodeExpired, Claim: claim, Want: "valid at " + stamp(at), Got: "valid from " + stamp(c.NotBefore) + " to " + stamp(c.NotAfter),
	}}
}

// noIssuer is the failure when nothing anchored issued the leaf.
func noIssuer(l *leaf) tee.Failure {
	return tee.Failure{Code: tee.CodeChain, Claim: l.cert.SigningKey.String() + " certificate", Want: "issued by " + l.cert.Product.issuer(l.cert.SigningKey) + " under a trusted root",
		Got: "issuer " + commonName(l.x509.Issuer.CommonName) + ", and no such certificate signed it", Hint: "fetch the certificate again; it was altered, or is not AMD's"}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
