package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds on certificates. The attester chooses those in a quote.
const (
	maxChain        = 8        // certificates in a quote
	maxCertificates = 64       // certificates beside it
	maxCertificate  = 16 << 10 // bytes of one of them
)

// chain is a certificate with the issuers that lead to a root. Its signatures
// verified; its dates and revocations are another question, for they depend on
// the time.
type chain []*x509.Certificate // leaf, authorities, root

func (c chain) leaf() *x509.Certificate { return c[0] }

// key is the leaf's key; every certificate of a chain has one on P-256.
func (c chain) key() *ecdsa.PublicKey {
	k, _ := c[0].PublicKey.(*ecdsa.PublicKey)
	return k
}

// issued says that child bears parent's name as its issuer and parent's
// signature, and that parent may sign certificates (RFC 5280 section 6.1.3). A
// leaf that acts as an authority fails here.
func issued(child, parent *x509.Certificate) bool {
	return bytes.Equal(child.RawIssuer, parent.RawSubject) && child.SignatureAlgorithm == x509.ECDSAWithSHA256 &&
		isP256(parent) && child.CheckSignatureFrom(parent) == nil
}

// directChain is the chain of a certificate that a root issued itself: a signer
// of TCB information, or an authority for PCK certificates.
func (a *anchors) directChain(c *x509.Certificate) chain {
	for _, root := range a.roots {
		if isP256(c) && !bytes.Equal(c.Raw, root.Raw) && issued(c, root) {
			return chain{c, root}
		}
	}
	return nil
}

// pckChain is the chain of a PCK certificate: one authority stands between it
// and the root (PCK profile, section 1.1).
func (a *anchors) pckChain(leaf *x509.Certificate, pool []*x509.Certificate) chain {
	if leaf.IsCA || !isP256(leaf) {
		return nil
	}
	for _, authority := range pool {
		if !authority.IsCA || !issued(leaf, authority) {
			continue
		}
		if up := a.directChain(authority); up != nil {
			return append(chain{leaf}, up...)
		}
	}
	return nil
}

// platform is a PCK certificate that a root vouches for.
type platform struct {
	chain  chain
	pck    PCK
	claims map[string]any
}

// platform finds the PCK certificate of a quote and its chain. A quote that
// brings a chain has to bring a good one: another one that leads from its leaf to
// a root does not mend it. What the quote's own certificates and the anchors say
// does not depend on the time, so it is remembered. Only what is good is, or
// whoever sends bad quotes could push the good ones out.
func (v *Verifier) platform(q *Quote, ev tee.Evidence, in tee.Input, a *anchors) (*platform, []tee.Failure) {
	if q.certType != certChain {
		given, failures := v.given(ev, in, a)
		p, more := selectPlatform(q, given, a)
		return p, append(failures, more...)
	}
	id := digestOf(a.id, q.certData)
	if p, ok := v.platforms.get(id); ok {
		return p, nil
	}
	own, failure := parseChainPEM(q.certData)
	if failure != nil {
		return nil, []tee.Failure{*failure}
	}
	p, failure := platformOf(own[0], own[1:], a)
	if failure != nil {
		return nil, []tee.Failure{*failure}
	}
	for _, c := range own {
		if !slices.ContainsFunc(p.chain, c.Equal) {
			return nil, []tee.Failure{{Code: tee.CodeChain, Claim: "certificates of the quote", Want: "the chain of its PCK certificate and nothing else", Got: "one of " + commonName(c),
				Hint: "the quote was altered, or its root is another than the trusted one"}}
		}
	}
	v.platforms.put(id, p)
	return p, nil
}

// platformOf builds the chain of one PCK certificate.
func platformOf(leaf *x509.Certificate, pool []*x509.Certificate, a *anchors) (*platform, *tee.Failure) {
	pck, err := parsePCK(leaf)
	switch {
	case sgxExtension(leaf) == nil:
		return nil, &tee.Failure{Code: tee.CodeNoSGXExtension, Claim: "PCK certificate", Want: "Intel's SGX extension", Got: "a certificate of " + commonName(leaf) + " without it",
			Hint: "only a PCK certificate vouches for a platform"}
	case err != nil:
		return nil, &tee.Failure{Code: tee.CodeParse, Claim: "PCK certificate", Want: "Intel's SGX extension", Got: fmt.Sprintf("%.200q", err.Error())}
	}
	c := a.pckChain(leaf, pool)
	if c == nil {
		return nil, &tee.Failure{Code: tee.CodeChain, Claim: "PCK certificate", Want: "issued by a PCK authority under a trusted root", Got: "issuer " + quoted(leaf.Issuer.CommonName) + ", and no such authority signed it",
			Hint: "the certificates are not Intel's, or the roots are not those of this platform"}
	}
	return &platform{chain: c, pck: pck, claims: pck.claims()}, nil
}

// selectPlatform picks the PCK certificate, among those that were given, whose
// key signed the quoting enclave's report: the quote does not bring its own.
func selectPlatform(q *Quote, given []*certificate, a *anchors) (*platform, []tee.Failure) {
	var failures []tee.Failure
	pool := certificatesOf(slices.Concat(given, a.known))
	for _, c := range given {
		if !c.isPlatform {
			continue
		}
		p, failure := platformOf(c.x509, pool, a)
		if failure != nil {
			failures = append(failures, *failure)
		} else if verifyRaw(p.chain.key(), q.qeReport, q.qeSignature) {
			return p, nil
		}
	}
	if len(failures) > 0 {
		return nil, failures
	}
	return nil, []tee.Failure{{Code: tee.CodeCollateralMissing, Claim: "PCK certificate", Want: "the certificate of the platform", Got: "none that signed this quoting enclave's report",
		Hint: "this quote does not bring its certificate: give the PCK certificate and its issuers as endorsements"}}
}

// parseChainPEM reads the certificates in a quote, NUL terminated or not. The
// text has to be what encoding them gives, white space apart: the decoder steps
// over what it cannot read, and nothing here may be such.
func parseChainPEM(b []byte) ([]*x509.Certificate, *tee.Failure) {
	var certs []*x509.Certificate
	var canonical []byte
	text := bytes.TrimRight(b, "\x00")
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if len(certs) == maxChain {
			return nil, parseFailure("certificates of the quote", fmt.Sprintf("at most %d", maxChain), "more")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, &tee.Failure{Code: tee.CodeChain, Claim: "certificates of the quote", Want: "certificates", Got: fmt.Sprintf("block %d is none, or malformed", len(certs)+1)}
		}
		certs = append(certs, c)
		canonical = append(canonical, pem.EncodeToMemory(block)...)
	}
	if len(certs) == 0 || !bytes.Equal(dense(canonical), dense(text)) {
		return nil, parseFailure("certificates of the quote", "a PEM chain and nothing else", fmt.Sprintf("%d certificates, and other bytes", len(certs)))
	}
	return certs, nil
}

// dense is text without white space.
func dense(b []byte) []byte { return bytes.Join(bytes.Fields(b), nil) }

// certificate is one that came beside a quote.
type certificate struct {
	id         digest // of the DER
	x509       *x509.Certificate
	isPlatform bool  // has the SGX extension
	direct     chain // when a root issued it itself
}

// given parses what came beside a quote. One that does not parse is skipped: it
// may be of another TEE, and nothing depends on it. What a certificate is and
// which root issued it does not change, so it is remembered.
func (v *Verifier) given(ev tee.Evidence, in tee.Input, a *anchors) ([]*certificate, []tee.Failure) {
	if n := len(ev.Certificates) + len(in.Endorsements.Certificates); n > maxCertificates {
		return nil, []tee.Failure{{Code: tee.CodeParse, Claim: "certificates", Want: fmt.Sprintf("at most %d", maxCertificates), Got: fmt.Sprint(n)}}
	}
	var certs []*certificate
	for _, list := range [][][]byte{ev.Certificates, in.Endorsements.Certificates} {
		for _, der := range list {
			if c := v.certificate(der, a); c != nil {
				certs = append(certs, c)
			}
		}
	}
	return certs, nil
}

func (v *Verifier) certificate(der []byte, a *anchors) *certificate {
	if len(der) > maxCertificate {
		return nil
	}
	id := digestOf(a.id, der)
	if c, ok := v.certificates.get(id); ok {
		return c
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	c := newCertificate(x, a)
	v.certificates.put(id, c)
	return c
}

func newCertificate(x *x509.Certificate, a *anchors) *certificate {
	return &certificate{id: sha256.Sum256(x.Raw), x509: x, isPlatform: sgxExtension(x) != nil, direct: a.directChain(x)}
}

func certificatesOf(given []*certificate) []*x509.Certificate {
	out := make([]*x509.Certificate, len(given))
	for i, c := range given {
		out[i] = c.x509
	}
	return out
}

// checkDates wants every certificate of a chain to be valid at a time.
func (c chain) checkDates(at time.Time) []tee.Failure {
	var failures []tee.Failure
	for _, cert := range c {
		if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
			failures = append(failures, tee.Failure{Code: tee.CodeExpired, Claim: "certificate of " + commonName(cert), Want: "valid at " + stamp(at),
				Got: "valid from " + stamp(cert.NotBefore) + " to " + stamp(cert.NotAfter)})
		}
	}
	return failures
}

func commonName(c *x509.Certificate) string { return quoted(c.Subject.CommonName) }

func quoted(s string) string { return fmt.Sprintf("%.64q", s) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
