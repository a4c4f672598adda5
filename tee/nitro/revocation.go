package nitro

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// list is what a revocation list (RFC 5280 section 5) says about the
// certificates that an issuer issued.
type list struct {
	thisUpdate, nextUpdate time.Time
	revoked                map[string]bool // by serial number
}

// listCache remembers lists that verified, by list and issuer. The caller gives
// lists, not the attester.
type listCache struct{ memo[*list] }

// check applies the given revocation lists to a chain: each to the certificates
// that its issuer issued. A list of nobody in the chain is ignored; an issuer
// without one gives a finding; one that is given must verify and be current.
func (l *listCache) check(c *chain, in tee.Input) {
	if n := len(in.Endorsements.CRLs); n > maxCRLs {
		c.fail(tee.CodeParse, "revocation lists", fmt.Sprintf("at most %d", maxCRLs), fmt.Sprint(n), "")
		return
	}
	lists := c.readLists(in.Endorsements.CRLs)
	without := 0
	for i, issuer := range c.issuers {
		child := c.leaf
		if i+1 < len(c.issuers) {
			child = c.issuers[i+1]
		}
		if child != nil && !l.checkOne(c, lists, issuer, child, in) {
			without++
		}
	}
	if without > 0 {
		c.findings = append(c.findings, tee.Finding{Code: tee.CodeRevocationUnknown, Detail: fmt.Sprintf("no revocation list was given of %d of the %d issuers", without, len(c.issuers))})
	}
}

// readLists parses the lists and keeps those that name an issuer of the chain.
func (c *chain) readLists(ders [][]byte) []*x509.RevocationList {
	var lists []*x509.RevocationList
	for _, der := range ders {
		if len(der) > maxCRL {
			c.fail(tee.CodeParse, "revocation list", fmt.Sprintf("at most %d bytes", maxCRL), fmt.Sprint(len(der)), "")
			continue
		}
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			c.fail(tee.CodeParse, "revocation list", "a DER revocation list", fmt.Sprintf("%.200q", err.Error()), "")
			continue
		}
		lists = append(lists, crl)
	}
	return lists
}

// checkOne applies the lists of one issuer to a certificate that it issued, and
// reports whether there is one.
func (l *listCache) checkOne(c *chain, lists []*x509.RevocationList, issuer, child *x509.Certificate, in tee.Input) bool {
	given, current, onTime := 0, false, false
	for _, crl := range lists {
		if !bytes.Equal(crl.RawIssuer, issuer.RawSubject) {
			continue
		}
		given++
		known, err := l.lookup(crl, issuer)
		if err != nil {
			c.fail(tee.CodeSignature, "revocation list", "by "+commonName(issuer), fmt.Sprintf("%.200q", err.Error()), "")
			continue
		}
		holds, late := in.Current(known.thisUpdate, known.nextUpdate)
		current, onTime = current || holds, onTime || holds && !late
		if known.revoked[child.SerialNumber.String()] {
			c.fail(tee.CodeRevoked, commonName(child), "not revoked", "serial number "+child.SerialNumber.String()+" is on the revocation list", "")
		}
	}
	switch {
	case given == 0 || onTime || in.At.IsZero():
	case current:
		c.findings = append(c.findings, tee.Finding{Code: tee.CodeCollateralExpired, Detail: "revocation list of " + commonName(issuer) + ": was to be replaced before " + stamp(in.At)})
	default:
		c.fail(tee.CodeCollateralExpired, "revocation list", "current at "+stamp(in.At), "none of "+commonName(issuer)+" is", "fetch the list again")
	}
	return given > 0
}

func (l *listCache) lookup(crl *x509.RevocationList, issuer *x509.Certificate) (*list, error) {
	id := digestOf(sha256.Sum256(issuer.Raw), crl.Raw)
	if known, ok := l.get(id); ok {
		return known, nil
	}
	if err := crl.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	for _, e := range crl.Extensions {
		if e.Critical { // such as one that says that the list is only a part
			return nil, fmt.Errorf("critical extension %s is not known", e.Id)
		}
	}
	known := &list{thisUpdate: crl.ThisUpdate, nextUpdate: crl.NextUpdate, revoked: make(map[string]bool, len(crl.RevokedCertificateEntries))}
	for _, e := range crl.RevokedCertificateEntries {
		known.revoked[e.SerialNumber.String()] = true
	}
	l.put(id, known, maxLists)
	return known, nil
}
