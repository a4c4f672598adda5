package snp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// maxVMPL is the least privileged level of a guest. The firmware writes all ones
// into VMPL of reports that the host asked for (56860, command
// SNP_HV_REPORT_REQ).
const maxVMPL = 3

// signingKeyNone is the signing key of a report that is not signed at all.
const signingKeyNone SigningKey = 7

// Verifier verifies attestation reports of SEV-SNP: the form, the chain from
// the VCEK or VLEK to a root, the report's signature, and that report,
// certificate and chain agree on product, chip, firmware level and kind of key.
//
// The VCEK or VLEK may be in Evidence.Certificates or in
// Endorsements.Certificates, at any place and among others; so may a signing
// certificate (ASK, ASVK) that the roots do not have. Certificates that do not
// help are ignored, except that more than 16 are refused. Trusted are only
// AMD's embedded roots, or Input.Roots in their place: self-signed ones as
// roots, others as signing certificates that a root must have issued. Roots
// must bear AMD's names (ARK-Milan, SEV-Milan, SEV-VLEK-Milan, …), because
// nothing else tells a signing certificate for VCEKs from one for VLEKs.
//
// Endorsements.CRLs are revocation lists of the roots. Those of other products
// are ignored; if one is given for the root at hand, one must be current.
// [MinimumTCB] is the only collateral.
//
// Claims of a verified report: Measurement is MEASUREMENT, LaunchDigest is
// HOST_DATA unless that is zero, SVN is GUEST_SVN, InstanceID is REPORT_ID,
// Platform is the chip id in the VCEK or the provider's name in the VLEK, and
// Debug is bit 19 of the policy. Signer and Product stay empty: SEV-SNP
// identifies an image's signer by the SHA-384 of AMD's own key structure, which
// is vendor claim id_key_digest. GUEST_SVN comes with that signature, so it
// means something only to a policy that names the id_key_digest. Vendor has
// version, product, signing_key (vcek, vlek), vmpl, policy and platform_info
// (one bool per bit, and bits), reported_tcb, current_tcb, committed_tcb and
// launch_tcb (fmc, bootloader, tee, snp, microcode), current_firmware and
// committed_firmware ("1.55.29"), csp_id, author_key_enabled, mask_chip_key,
// and in hex chip_id, family_id, image_id, id_key_digest, author_key_digest,
// report_id_ma and host_data.
//
// Findings: CodeCollateralMissing when no revocation list of the root was
// given; CodePlatform when the host hides CHIP_ID, so that only the VCEK says
// which chip it is.
//
// It is pure and safe for concurrent use; the zero value works. Certificates
// and lists that verified are remembered, within bounds, which changes how long
// a verdict takes and never what it is.
type Verifier struct {
	anchors anchorCache
	leaves  leafCache
	lists   listCache
}

// New returns a verifier that has AMD's roots embedded.
func New() *Verifier { return &Verifier{} }

// Kind is tee.SNP.
func (v *Verifier) Kind() tee.Kind { return tee.SNP }

// Detect reports whether data has the size and the signature algorithm of an
// attestation report. It leaves the version to Verify, which can then say that
// it is one that this build does not know.
func (v *Verifier) Detect(data []byte) bool {
	return len(data) == ReportSize && binary.LittleEndian.Uint32(data[offVersion:]) <= 0xFF &&
		binary.LittleEndian.Uint32(data[offAlgorithm:]) == algECDSAP384
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report
// data is the expected one is for the caller to check. The error is a
// *tee.VerifyError that lists everything that is wrong: CodeUnknownFormat (other
// kind of evidence), CodeParse, CodeUnsupported (version, algorithm, kind of
// key, or a report that the host asked for), CodeTime (Input.At is zero),
// CodeCollateralMissing (no VCEK or VLEK; the hint says where to get it),
// CodeProduct, CodePlatform, CodeChain, CodeExpired, CodeRevoked,
// CodeCollateralExpired (no revocation list is current), CodeSignature.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	if ev.Kind != tee.SNP {
		return refuse(tee.Failure{Code: tee.CodeUnknownFormat, Claim: "tee", Want: string(tee.SNP), Got: fmt.Sprintf("%.32q", string(ev.Kind))})
	}
	failures := checkTime(in.At)
	r, err := ParseReport(ev.Data)
	if err != nil {
		return refuse(append(failures, failuresOf(err)...)...)
	}
	failures = append(failures, checkReport(r)...)
	best := v.judge(r, ev, in)
	failures = append(failures, best.failures...)
	status, failure := tcbStatus(best.product(r), best.tcb(r), in)
	if failure != nil {
		failures = append(failures, *failure)
	}
	if len(failures) > 0 {
		return refuse(failures...)
	}
	return claimsFrom(r, best.leaf.cert, status), best.findings, nil
}

func refuse(failures ...tee.Failure) (tee.Claims, []tee.Finding, error) {
	return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.SNP, Failures: failures}
}

func failuresOf(err error) []tee.Failure {
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		return e.Failures
	}
	return []tee.Failure{{Code: tee.CodeParse, Claim: "report", Got: err.Error()}}
}

func checkTime(at time.Time) []tee.Failure {
	if !at.IsZero() {
		return nil
	}
	return []tee.Failure{{Code: tee.CodeTime, Claim: "time", Want: "the time to verify at", Got: "none"}}
}

// checkReport lists what is wrong with a report by itself.
func checkReport(r *Report) []tee.Failure {
	var failures []tee.Failure
	if r.Version >= 3 && productOfCPUID(r.CPUID) == "" {
		failures = append(failures, tee.Failure{Code: tee.CodeProduct, Claim: "cpuid", Want: fmt.Sprintf("one of %v", products),
			Got: fmt.Sprintf("family %#x, model %#x", r.CPUID[0], r.CPUID[1]), Hint: "this processor is not known to this build"})
	}
	switch {
	case r.SigningKey == signingKeyNone:
		failures = append(failures, tee.Failure{Code: tee.CodeSignature, Claim: "signing_key", Want: "vcek or vlek", Got: "none", Hint: "the firmware did not sign this report"})
	case r.SigningKey != VCEK && r.SigningKey != VLEK:
		failures = append(failures, tee.Failure{Code: tee.CodeUnsupported, Claim: "signing_key", Want: "vcek or vlek", Got: r.SigningKey.String()})
	case r.SigningKey == VCEK && r.MaskChipKey:
		// 56860, command SNP_CONFIG: with MASK_CHIP_KEY the firmware writes zeroes
		// in place of a signature by the VCEK.
		failures = append(failures, tee.Failure{Code: tee.CodeSignature, Claim: "mask_chip_key", Want: "false, or a vlek", Got: "true",
			Hint: "the host has to clear MASK_CHIP_KEY (SNP_CONFIG) or load a VLEK"})
	}
	if r.VMPL > maxVMPL {
		failures = append(failures, tee.Failure{Code: tee.CodeUnsupported, Claim: "vmpl", Want: "0 to 3", Got: fmt.Sprint(r.VMPL),
			Hint: "a report that the host asked for says nothing that the guest wanted to say"})
	}
	return failures
}

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
