package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// checkIdentity lists in which ways the report is not one of the leaf's chip,
// firmware, product and kind of key.
func (o *verdict) checkIdentity(r *Report) {
	c := o.leaf.cert
	mismatch := func(code tee.Code, claim, want, got, hint string) {
		o.mismatches++
		o.failures = append(o.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
	}
	if c.SigningKey != r.SigningKey {
		mismatch(tee.CodePlatform, "signing_key", r.SigningKey.String(), c.SigningKey.String(), leafHint(r))
	}
	// Reports of version 2 do not say; then the certificate does.
	if p := productOfCPUID(r.CPUID); r.Version >= 3 && p != "" && p != c.Product {
		mismatch(tee.CodeProduct, "product", string(p), string(c.Product), leafHint(r))
	}
	if c.tcb != r.ReportedTCB {
		mismatch(tee.CodePlatform, "reported_tcb", hex.EncodeToString(r.ReportedTCB[:]), hex.EncodeToString(c.tcb[:]), leafHint(r))
	}
	if c.SigningKey == VLEK {
		return // is not bound to a chip
	}
	switch {
	case allZero(r.ChipID[:]):
		// 56860, command SNP_CONFIG: with MASK_CHIP_ID the firmware writes zeroes
		// into CHIP_ID. The signature by the VCEK still proves the chip.
		o.findings = append(o.findings, tee.Finding{Code: tee.CodePlatform, Detail: "the host hides CHIP_ID; the chip is known by its VCEK alone"})
	case !c.matchesChip(r):
		mismatch(tee.CodePlatform, "chip_id", hex.EncodeToString(r.ChipID[:]), c.chipHex(), leafHint(r))
	}
}

// checkSignature verifies the report with the leaf's key: ECDSA P-384 over the
// SHA-384 of everything before the signature (56860, section "Attestation").
func (o *verdict) checkSignature(r *Report) {
	digest := sha512.Sum384(r.signed[:])
	if rr, ss := r.signature(); !ecdsa.Verify(o.leaf.key, digest[:], rr, ss) {
		o.failures = append(o.failures, tee.Failure{Code: tee.CodeSignature, Claim: "signature", Want: "by the key in the " + o.leaf.cert.SigningKey.String(),
			Hint: "the report was altered, or another key signed it"})
	}
}

// missingLeaf is the failure when nobody gave a VCEK or VLEK.
func missingLeaf(r *Report) tee.Failure {
	name := r.SigningKey.String()
	return tee.Failure{Code: tee.CodeCollateralMissing, Claim: "certificates", Want: "the " + name + " certificate of the report", Got: "none", Hint: leafHint(r)}
}

// leafHint says where to get the certificate for a report.
func leafHint(r *Report) string {
	p := productOfCPUID(r.CPUID)
	switch {
	case r.SigningKey == VLEK:
		return "take the VLEK from the guest: the provider hands it out with an extended report"
	case r.SigningKey != VCEK:
		return ""
	case allZero(r.ChipID[:]):
		return "the host hides CHIP_ID: take the VCEK from the guest, which gets it with an extended report"
	case r.Version < 3:
		return fmt.Sprintf("fetch the VCEK from %s (a report of version 2 does not name its product: this is for %s, or put %s there)", KDSURL(r, Milan), Milan, Genoa)
	case p == "":
		return ""
	}
	return "fetch the VCEK from " + KDSURL(r, p)
}

// duplicate reports whether certs[i] stands earlier in the list already.
func duplicate(certs [][]byte, i int) bool {
	for _, c := range certs[:i] {
		if bytes.Equal(c, certs[i]) {
			return true
		}
	}
	return false
}
