package tpm

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Key purposes of the TCG ("TCG EK Credential Profile" section 3.2.16 and 4.2).
// Google gives its attestation keys the one of endorsement keys.
var (
	oidKeyPurposeEK = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidKeyPurposeAK = asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	oidSubjectAlt   = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// checkChain lists what is wrong between the certificate of the attestation key
// and a root. There are no embedded roots: makers of TPMs have hundreds, and which
// of them a relying party wants is its own choice.
func (a *attestationKey) checkChain(cert *x509.Certificate, s *Statement, ev tee.Evidence, in tee.Input) {
	a.checkUse(cert)
	a.chainToRoot("ak certificate", cert, certificates(s, ev, in), in)
}

// chainToRoot lists what is wrong between a certificate and a root.
func (a *attestationKey) chainToRoot(claim string, cert *x509.Certificate, others [][]byte, in tee.Input) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	n := 0
	for _, r := range in.Roots {
		if r != nil {
			roots.AddCert(r)
			n++
		}
	}
	if n == 0 {
		a.fail(tee.CodeChain, "roots", "roots of the TPM's maker or cloud", "none", "there are none embedded: give the roots that you trust, or enrol the key ("+TrustedAK+")")
		return
	}
	if len(others) > maxCertificates {
		a.fail(tee.CodeParse, "certificates", fmt.Sprintf("at most %d", maxCertificates), fmt.Sprint(len(others)), "")
		return
	}
	for _, der := range others {
		if c, err := parseCertificate(der); err == nil && c.IsCA {
			intermediates.AddCert(c)
		}
	}
	if in.At.IsZero() {
		return // Verify says so; and zero would mean the wall clock here
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: in.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	chains, err := withoutNames(cert).Verify(options)
	if err != nil {
		code := tee.CodeChain
		if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
			code = tee.CodeExpired
		}
		a.fail(code, claim, "a chain to a root, valid at "+stamp(in.At), fmt.Sprintf("%.200s", err.Error()), "send the issuing certificates along")
		return
	}
	a.checkRevocation(chains[0], in)
}

// withoutNames is the certificate with its alternative names taken as handled.
// Those of a TPM are critical and say who made it (a directory name), which the
// standard library does not know and nothing here depends on.
func withoutNames(c *x509.Certificate) *x509.Certificate {
	known := *c
	known.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions), oidSubjectAlt.Equal)
	return &known
}

// checkUse wants a certificate that is for signing and no authority's.
func (a *attestationKey) checkUse(c *x509.Certificate) {
	if c.IsCA || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		a.fail(tee.CodeChain, "ak certificate", "not an authority's, with key usage digitalSignature", fmt.Sprintf("authority %t, key usage %#x", c.IsCA, int(c.KeyUsage)), "")
	}
	purposes := len(c.ExtKeyUsage) + len(c.UnknownExtKeyUsage)
	ours := slices.ContainsFunc(c.UnknownExtKeyUsage, func(o asn1.ObjectIdentifier) bool { return o.Equal(oidKeyPurposeAK) || o.Equal(oidKeyPurposeEK) })
	if purposes > 0 && !ours {
		a.fail(tee.CodeChain, "ak certificate", "for keys of a TPM", "for another purpose", "")
	}
}

// checkRevocation applies the given revocation lists (RFC 5280 section 5) to a
// chain, each to the certificates that its issuer issued. Lists of others are
// ignored; one that is given must verify and be current.
func (a *attestationKey) checkRevocation(chain []*x509.Certificate, in tee.Input) {
	var lists []*x509.RevocationList
	if n := len(in.Endorsements.CRLs); n > maxCRLs {
		a.fail(tee.CodeParse, "revocation lists", fmt.Sprintf("at most %d", maxCRLs), fmt.Sprint(n), "")
		return
	}
	for _, der := range in.Endorsements.CRLs {
		crl, err := x509.ParseRevocationList(der)
		if err != nil || len(der) > maxCRL {
			a.fail(tee.CodeParse, "revocation list", fmt.Sprintf("a DER list of at most %d bytes", maxCRL), fmt.Sprintf("%d other bytes", len(der)), "")
			continue
		}
		lists = append(lists, crl)
	}
	without := 0
	for i, issuer := range chain[1:] {
		if !a.checkLists(lists, issuer, chain[i], in) {
			without++
		}
	}
	if without > 0 {
		a.findings = append(a.findings, tee.Finding{Code: tee.CodeRevocationUnknown, Detail: fmt.Sprintf("no revocation list was given of %d of the %d issuers", without, len(chain)-1)})
	}
}

func (a *attestationKey) checkLists(lists []*x509.RevocationList, issuer, child *x509.Certificate, in tee.Input) (given bool) {
	current, onTime := false, false
	for _, crl := range lists {
		if !bytes.Equal(crl.RawIssuer, issuer.RawSubject) {
			continue
		}
		given = true
		critical := slices.ContainsFunc(crl.Extensions, func(e pkix.Extension) bool { return e.Critical })
		if err := crl.CheckSignatureFrom(issuer); err != nil || critical {
			a.fail(tee.CodeSignature, "revocation list", "by "+fmt.Sprintf("%.80q", issuer.Subject.CommonName), "another, or one that is not whole", "")
			continue
		}
		holds, late := in.Current(crl.ThisUpdate, crl.NextUpdate)
		current, onTime = current || holds, onTime || holds && !late
		for _, e := range crl.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(child.SerialNumber) == 0 {
				a.fail(tee.CodeRevoked, fmt.Sprintf("%.80q", child.Subject.CommonName), "not revoked", "serial number "+child.SerialNumber.String()+" is on the revocation list", "")
			}
		}
	}
	switch {
	case !given || onTime:
	case current:
		a.findings = append(a.findings, tee.Finding{Code: tee.CodeCollateralExpired, Detail: "revocation list: was to be replaced before " + stamp(in.At)})
	default:
		a.fail(tee.CodeCollateralExpired, "revocation list", "current at "+stamp(in.At), "none is", "fetch the list again")
	}
	return given
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
