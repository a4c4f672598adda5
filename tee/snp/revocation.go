package snp

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// list is what a revocation list (RFC 5280 section 5) says about certificates
// that a root issued.
type list struct {
	other                  bool // is of another root
	thisUpdate, nextUpdate time.Time
	revoked                map[string]bool // by serial number
}

// listCache remembers lists that verified, and those of other roots, by list and
// root. The caller gives lists, not the attester.
type listCache struct{ memo[*list] }

// check applies the given revocation lists to a chain. VCEKs and VLEKs all have
// serial number 0, so a list can only revoke the signing certificate and the
// root. A list that does not verify is a failure even if another one does: who
// altered it wanted to hide something.
func (c *listCache) check(o *verdict, i *issuer, in tee.Input) {
	if n := len(in.Endorsements.CRLs); n > maxCRLs {
		o.failures = append(o.failures, tee.Failure{Code: tee.CodeParse, Claim: "revocation lists", Want: fmt.Sprintf("at most %d", maxCRLs), Got: fmt.Sprint(n)})
		return
	}
	given, current, onTime := 0, false, false
	for _, der := range in.Endorsements.CRLs {
		l, failure := c.lookup(der, i)
		if failure != nil {
			o.failures = append(o.failures, *failure)
			continue
		}
		if l.other {
			continue
		}
		given++
		holds, late := in.Current(l.thisUpdate, l.nextUpdate)
		current, onTime = current || holds, onTime || holds && !late
		o.failures = append(o.failures, l.check("signing certificate", i.signer)...)
		o.failures = append(o.failures, l.check("root", i.root)...)
	}
	switch {
	case given == 0:
		o.findings = append(o.findings, tee.Finding{Code: tee.CodeCollateralMissing, Detail: "no revocation list of " + commonName(i.root.Subject.CommonName) + " was given"})
	case !current && !in.At.IsZero():
		o.failures = append(o.failures, tee.Failure{Code: tee.CodeCollateralExpired, Claim: "revocation list", Want: "current at " + stamp(in.At), Got: "none is",
			Hint: "fetch the list again: it is replaced before its next update"})
	case !onTime && current:
		o.findings = append(o.findings, tee.Finding{Code: tee.CodeCollateralExpired, Detail: "revocation list: was to be replaced before " + stamp(in.At)})
	}
}

// check refuses a certificate that is on the list. The date of revocation does
// not matter: AMD does not revoke keys for what happened later.
func (l *list) check(claim string, c *x509.Certificate) []tee.Failure {
	if !l.revoked[c.SerialNumber.String()] {
		return nil
	}
	return []tee.Failure{{Code: tee.CodeRevoked, Claim: claim, Want: "not revoked", Got: "serial number " + c.SerialNumber.String() + " is on the revocation list"}}
}

// lookup reads and verifies a list for the root of i.
func (c *listCache) lookup(der []byte, i *issuer) (*list, *tee.Failure) {
	id := digestOf(i.rootID, der)
	if l, ok := c.get(id); ok {
		return l, nil
	}
	l, failure := readList(der, i.root)
	if failure == nil {
		c.put(id, l, maxLists)
	}
	return l, failure
}

func readList(der []byte, root *x509.Certificate) (*list, *tee.Failure) {
	bad := func(code tee.Code, want, got string) (*list, *tee.Failure) {
		return nil, &tee.Failure{Code: code, Claim: "revocation list", Want: want, Got: got}
	}
	if len(der) > maxCRL {
		return bad(tee.CodeParse, fmt.Sprintf("at most %d bytes", maxCRL), fmt.Sprint(len(der)))
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return bad(tee.CodeParse, "a DER revocation list", fmt.Sprintf("%.200q", err.Error()))
	}
	if !bytes.Equal(crl.RawIssuer, root.RawSubject) {
		return &list{other: true}, nil
	}
	if crl.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return bad(tee.CodeSignature, x509.SHA384WithRSAPSS.String(), crl.SignatureAlgorithm.String())
	}
	if err := crl.CheckSignatureFrom(root); err != nil {
		return bad(tee.CodeSignature, "by "+root.Subject.CommonName, fmt.Sprintf("%.200q", err.Error()))
	}
	for _, e := range crl.Extensions {
		if e.Critical { // such as one that says that the list is only a part
			return bad(tee.CodeUnsupported, "no critical extension", e.Id.String())
		}
	}
	l := &list{thisUpdate: crl.ThisUpdate, nextUpdate: crl.NextUpdate, revoked: make(map[string]bool, len(crl.RevokedCertificateEntries))}
	for _, e := range crl.RevokedCertificateEntries {
		l.revoked[e.SerialNumber.String()] = true
	}
	return l, nil
}
