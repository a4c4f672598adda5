package snp

import (
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// verdict is what one VCEK or VLEK makes of a report.
type verdict struct {
	leaf       *leaf // nil: there was none
	mismatches int   // how many of the failures say that it is another key's report
	failures   []tee.Failure
	findings   []tee.Finding
}

func (o *verdict) betterThan(p *verdict) bool {
	if o.mismatches != p.mismatches {
		return o.mismatches < p.mismatches
	}
	return len(o.failures) < len(p.failures)
}

// product is the best knowledge of the report's product, "" if there is none.
func (o *verdict) product(r *Report) Product {
	if o.leaf != nil {
		return o.leaf.cert.Product
	}
	return productOfCPUID(r.CPUID)
}

func (o *verdict) tcb(r *Report) TCB { return decodeTCB(o.product(r), r.ReportedTCB) }

// judge finds the VCEK or VLEK that signed the report. Of several it takes the
// first with which everything is right, else the one that fits best; those that
// fit worse than one before are not tried further.
func (v *Verifier) judge(r *Report, ev tee.Evidence, in tee.Input) *verdict {
	certs := slices.Concat(ev.Certificates, in.Endorsements.Certificates)
	if len(certs) > maxCertificates {
		return &verdict{failures: []tee.Failure{{Code: tee.CodeParse, Claim: "certificates", Want: fmt.Sprintf("at most %d", maxCertificates), Got: fmt.Sprint(len(certs))}}}
	}
	a, failure := v.anchors.lookup(in.Roots)
	if failure != nil {
		return &verdict{failures: []tee.Failure{*failure}}
	}
	var best *verdict
	var unread []tee.Failure
	for i, der := range certs {
		l, failure := v.leaves.lookup(der, a)
		if failure != nil {
			unread = append(unread, *failure)
		}
		if l == nil {
			continue
		}
		o := &verdict{leaf: l}
		o.checkIdentity(r)
		if best != nil && o.mismatches > best.mismatches || duplicate(certs, i) {
			continue
		}
		v.checkChain(o, certs, a, in)
		o.checkSignature(r)
		if len(o.failures) == 0 {
			return o
		}
		if best == nil || o.betterThan(best) {
			best = o
		}
	}
	if best == nil {
		return &verdict{failures: append(unread, missingLeaf(r))}
	}
	return best
}
