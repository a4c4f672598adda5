package refvalues

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of a chain: real ones have three certificates, with keys of 3072 and
// 4096 bits. Larger RSA keys cost more time than an endorsement is worth.
const (
	maxChain   = 8
	minRSABits = 2048
	maxRSABits = 8192
)

// Resolve returns the key of the signer whose certificate is the first of a
// chain, in DER, if the identifier is a name of that signer. It wants what the
// specification wants (section "DID Resolution"): two certificates or more, each
// issued by the next, which is a certificate authority that may have so many
// below it; no critical extension but those of the specification; the
// fingerprint is of one of the authorities; the signer's certificate meets every
// predicate and may sign.
//
// The last certificate needs no trust of its own: what counts is that the
// authority with the fingerprint is in the chain, and the rest hangs from it.
//
// It wants more than the specification in these points. The signer is no
// certificate authority, so that no fingerprint is of both. An authority that is
// limited to some extended key usages does not give others. Constraints on names
// and on policies are refused, as nothing here would check them. Keys are RSA of
// 2048 to 8192 bits, or ECDSA on P-256, P-384 or P-521; x509 of the standard
// library refuses signatures with SHA-1.
//
// The specification leaves the time to the application. Here at is when the
// signer signed: every certificate has to have been valid then. The zero time
// stands for a time that nobody knows, and then there has to have been a time at
// which all of them were valid together. The present is never compared with, nor
// revocation looked up. Errors wrap [ErrNotTrusted], and [ErrFormat] for what
// is no certificate.
func (d DIDX509) Resolve(chain [][]byte, at time.Time) (crypto.PublicKey, error) {
	if len(d.predicates) == 0 {
		return nil, untrusted("did:x509: an identifier that was not parsed names nobody")
	}
	if len(chain) < 2 || len(chain) > maxChain {
		return nil, malformed("%d certificates, want 2 to %d", len(chain), maxChain)
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed("certificate %d: %s", i, clip(err.Error()))
		}
		certs[i] = c
	}
	if !slices.ContainsFunc(certs[1:], d.pins) {
		return nil, untrusted("did:x509: no authority in the chain has the fingerprint")
	}
	// What costs little comes before signatures.
	for i, c := range certs {
		if err := checkCertificate(c, i); err != nil {
			return nil, untrusted("certificate %d: %v", i, err)
		}
	}
	if err := d.checkSigner(certs); err != nil {
		return nil, untrusted("did:x509: %v", err)
	}
	if err := checkTimes(certs, at); err != nil {
		return nil, untrusted("%v", err)
	}
	for i, c := range certs[:len(certs)-1] {
		if issuer := certs[i+1]; !bytes.Equal(c.RawIssuer, issuer.RawSubject) || c.CheckSignatureFrom(issuer) != nil {
			return nil, untrusted("certificate %d is not issued by the next one", i)
		}
	}
	return certs[0].PublicKey, nil
}

func untrusted(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrNotTrusted, fmt.Sprintf(format, a...))
}

// pins reports whether the fingerprint is of the certificate.
func (d DIDX509) pins(c *x509.Certificate) bool {
	h := d.hash.New()
	h.Write(c.Raw)
	return bytes.Equal(h.Sum(nil), d.fingerprint)
}

// checkCertificate checks what does not depend on others, of the certificate at
// a place in the chain: 0 is the signer, the others are authorities with place-1
// authorities below them.
func checkCertificate(c *x509.Certificate, place int) error {
	if !isKeyTaken(c.PublicKey) {
		return errors.New("want an RSA key of 2048 to 8192 bits, or one on P-256, P-384 or P-521")
	}
	if err := checkExtensions(c); err != nil {
		return err
	}
	_, limitsUse := extension(c, oidKeyUsage)
	switch {
	case place == 0 && c.IsCA:
		return errors.New("the signer is a certificate authority")
	case place == 0 && limitsUse && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the signer's key is not for signatures")
	case place > 0 && (!c.BasicConstraintsValid || !c.IsCA || limitsUse && c.KeyUsage&x509.KeyUsageCertSign == 0):
		return errors.New("not a certificate authority")
	case place > 0 && (c.MaxPathLen > 0 || c.MaxPathLenZero) && place-1 > c.MaxPathLen:
		return errors.New("more authorities below than it may have")
	}
	return nil
}

func isKeyTaken(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
	}
	return false
}

// Object identifiers of extensions (RFC 5280 section 4.2.1), below 2.5.29.
const (
	oidKeyUsage            = 15
	oidSubjectAltName      = 17
	oidBasicConstraints    = 19
	oidNameConstraints     = 30
	oidCertificatePolicies = 32
	oidPolicyMappings      = 33
	oidPolicyConstraints   = 36
	oidExtKeyUsage         = 37
	oidInhibitAnyPolicy    = 54
)

// extension returns the value of an extension of RFC 5280, and whether it is there.
func extension(c *x509.Certificate, arc int) ([]byte, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, arc}) {
			return e.Value, true
		}
	}
	return nil, false
}

// checkExtensions refuses critical extensions that the specification does not
// name, and those that would need a check that is not made here. Without policy
// constraints the other extensions about policies cannot fail a path whose user
// asks for no policy (RFC 5280 section 6.1).
func checkExtensions(c *x509.Certificate) error {
	known := []int{
		oidKeyUsage, oidSubjectAltName, oidBasicConstraints, oidCertificatePolicies, oidPolicyMappings, oidExtKeyUsage, oidInhibitAnyPolicy,
	}
	for _, e := range c.Extensions {
		standard := len(e.Id) == 4 && e.Id[0] == 2 && e.Id[1] == 5 && e.Id[2] == 29
		if standard && (e.Id[3] == oidNameConstraints || e.Id[3] == oidPolicyConstraints) {
			return errors.New("constraints on names or policies are not supported")
		}
		if e.Critical && (!standard || !slices.Contains(known, e.Id[3])) {
			return fmt.Errorf("the critical extension %s is not supported", clip(e.Id.String()))
		}
	}
	return nil
}

// extendedKeyUsages are the usages that a certificate is limited to; none means
// that it is not.
func extendedKeyUsages(c *x509.Certificate) ([]string, error) {
	value, ok := extension(c, oidExtKeyUsage)
	if !ok {
		return nil, nil
	}
	var oids []asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(value, &oids); err != nil || len(rest) > 0 || len(oids) == 0 {
		return nil, errors.New("extended key usages that cannot be read")
	}
	var out []string
	for _, oid := range oids {
		out = append(out, oid.String())
	}
	return out, nil
}

const anyExtendedKeyUsage = "2.5.29.37.0"

// checkSigner checks the predicates. Authorities that are limited to extended
// key usages must have those too that the identifier asks for: RFC 5280 does not
// say so, but whoever limits an authority that way expects it to hold.
func (d DIDX509) checkSigner(certs []*x509.Certificate) error {
	for _, p := range d.predicates {
		if err := p.met(certs[0]); err != nil {
			return err
		}
		if p.usage == "" {
			continue
		}
		for i, issuer := range certs[1:] {
			usages, err := extendedKeyUsages(issuer)
			if err != nil {
				return err
			}
			if len(usages) > 0 && !slices.Contains(usages, p.usage) && !slices.Contains(usages, anyExtendedKeyUsage) {
				return fmt.Errorf("certificate %d is an authority for other extended key usages than %s", i+1, p.usage)
			}
		}
	}
	return nil
}

// checkTimes wants every certificate to be valid at a time, or for the zero time
// at any one.
func checkTimes(certs []*x509.Certificate, at time.Time) error {
	from, to := certs[0].NotBefore, certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if c.NotAfter.Before(to) {
			to = c.NotAfter
		}
	}
	switch {
	case from.After(to):
		return errors.New("the certificates were never valid together")
	case !at.IsZero() && (at.Before(from) || at.After(to)):
		return fmt.Errorf("signed at %s, and the certificates were valid from %s to %s", stamp(at), stamp(from), stamp(to))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
