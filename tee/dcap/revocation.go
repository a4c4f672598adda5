package dcap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds on revocation lists, which the relying party gives.
const (
	maxCRLs = 16
	maxCRL  = 1 << 20 // bytes
)

// list is a parsed revocation list (RFC 5280 section 5). Its signature is
// another question.
type list struct {
	id      digest // of the DER
	crl     *x509.RevocationList
	revoked map[string]bool // by serial number, big-endian bytes
	partial bool            // has a critical extension, such as one that says that it is a part
}

// lists parses the revocation lists that were given; one list of them is for
// every authority.
func (v *Verifier) parseLists(in tee.Input) ([]*list, []tee.Failure) {
	if n := len(in.Endorsements.CRLs); n > maxCRLs {
		return nil, []tee.Failure{{Code: tee.CodeParse, Claim: "revocation lists", Want: fmt.Sprintf("at most %d", maxCRLs), Got: fmt.Sprint(n)}}
	}
	var out []*list
	var failures []tee.Failure
	for _, der := range in.Endorsements.CRLs {
		l, failure := v.parseList(der)
		if failure != nil {
			failures = append(failures, *failure)
			continue
		}
		out = append(out, l)
	}
	return out, failures
}

func (v *Verifier) parseList(der []byte) (*list, *tee.Failure) {
	if len(der) > maxCRL {
		return nil, &tee.Failure{Code: tee.CodeParse, Claim: "revocation list", Want: fmt.Sprintf("at most %d bytes", maxCRL), Got: fmt.Sprint(len(der))}
	}
	id := digest(sha256.Sum256(der))
	if l, ok := v.lists.get(id); ok {
		return l, nil
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, &tee.Failure{Code: tee.CodeParse, Claim: "revocation list", Want: "a DER revocation list", Got: fmt.Sprintf("%.200q", err.Error())}
	}
	l := &list{id: id, crl: crl, revoked: make(map[string]bool, len(crl.RevokedCertificateEntries))}
	for _, e := range crl.RevokedCertificateEntries {
		l.revoked[string(e.SerialNumber.Bytes())] = true
	}
	for _, e := range crl.Extensions {
		l.partial = l.partial || e.Critical
	}
	v.lists.put(id, l)
	return l, nil
}

// checkRevoked looks a certificate up in the lists of its issuer. A list that
// bears the issuer's name and not its signature is a failure even if another one
// does: who altered it wanted to hide something. The date of a revocation does
// not matter: what vouched for a platform then is not to be trusted now.
func (v *Verifier) checkRevoked(o *verdict, c, issuer *x509.Certificate, lists []*list, in tee.Input) {
	given, current := 0, false
	var until time.Time // of the list that lasts longest
	for _, l := range lists {
		if !bytes.Equal(l.crl.RawIssuer, issuer.RawSubject) {
			continue
		}
		given++
		if !v.listSigned(l, issuer) {
			o.fail(tee.CodeSignature, "revocation list", "signed by "+commonName(issuer), "another signature, or a partial list", "fetch the list again")
			continue
		}
		if holds, _ := in.Current(l.crl.ThisUpdate, l.crl.NextUpdate); holds {
			current, until = true, later(until, l.crl.NextUpdate)
		}
		if l.revoked[string(c.SerialNumber.Bytes())] {
			o.fail(tee.CodeRevoked, "certificate of "+commonName(c), "not revoked", fmt.Sprintf("serial number %x is on the list of %s", c.SerialNumber, commonName(issuer)), "")
		}
	}
	switch {
	case given == 0:
		o.missing("no revocation list of " + commonName(issuer) + " was given")
	case !current:
		o.fail(tee.CodeCollateralExpired, "revocation list of "+commonName(issuer), "current at "+stamp(in.At), "none is", "fetch the list again: it is replaced before its next update")
	default:
		o.late("revocation list of "+commonName(issuer), until, in)
	}
}

func (v *Verifier) listSigned(l *list, issuer *x509.Certificate) bool {
	if l.partial || l.crl.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return false
	}
	id := digestOf(l.id, issuer.Raw)
	if signed, ok := v.signatures.get(id); ok {
		return signed
	}
	if l.crl.CheckSignatureFrom(issuer) != nil {
		return false
	}
	v.signatures.put(id, true)
	return true
}
