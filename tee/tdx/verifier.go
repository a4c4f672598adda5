package tdx

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// Verifier verifies ECDSA quotes of TDs, of version 4 and 5, as [dcap.Verifier]
// says.
//
// PCK certificates, their issuers and those of TCB signers may be in
// Evidence.Certificates or Endorsements.Certificates. Endorsements.CRLs are the
// lists of the root and of the PCK authorities. Endorsements.Collateral holds
// answers of Intel's PCS under any name: TCB information and the quoting
// enclave's identity. Roots are Intel's, embedded, or Input.Roots.
//
// Claims of a verified quote: Measurement is MRTD, LaunchDigest is MRCONFIGID
// where that is 32 bytes and zeroes, Platform is the PPID, Debug is any bit of
// the group TUD in TDATTRIBUTES, TCB is Intel's status, Unknown without
// collateral. There is no instance id, and Signer, Product and SVN are empty.
// Vendor has mr_td, mr_seam, mr_signer_seam, seam_attributes, td_attributes
// (one bool per bit, and bits), xfam, mr_config_id, mr_owner, mr_owner_config,
// rtmr0 to rtmr3, tee_tcb_svn, of TDX 1.5 tee_tcb_svn_2 and mr_service_td, and
// what dcap.Result.PlatformClaims lists; with Evidence.EventLog, which has to
// replay to the registers, also what eventlog.Facts.Claims lists for a TD.
//
// It is pure and safe for concurrent use; the zero value works.
type Verifier struct{ dcap dcap.Verifier }

// New returns a verifier that has Intel's root embedded.
func New() *Verifier { return &Verifier{} }

// Kind is tee.TDX.
func (v *Verifier) Kind() tee.Kind { return tee.TDX }

// Detect reports whether data starts as a quote of a TD does.
func (v *Verifier) Detect(data []byte) bool {
	return len(data) >= 48 && binary.LittleEndian.Uint16(data) < 16 &&
		binary.LittleEndian.Uint16(data[2:]) == 2 && binary.LittleEndian.Uint32(data[4:]) == 0x81
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report
// data is the expected one is for the caller to check. The error is a
// *tee.VerifyError with the codes of [dcap.Verifier.Verify], and CodeEventLog
// for an event log that does not replay.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	r, err := v.dcap.Verify(tee.TDX, ev, in)
	if err != nil {
		return tee.Claims{}, nil, err
	}
	report, err := ParseReport(r.Quote.Body)
	if err != nil {
		return tee.Claims{}, nil, tee.Refuse(tee.TDX, tee.CodeParse, "body", "a TD report", fmt.Sprintf("%.200q", err.Error()), "")
	}
	claims := claimsFrom(r, report)
	if failures := addLog(claims.Vendor, ev.EventLog, report); len(failures) > 0 {
		return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.TDX, Failures: failures}
	}
	return claims, r.Findings, nil
}

// addLog replays an event log to the runtime registers, and adds the facts that
// follow from it. No log proves nothing; one that is of another boot is a lie.
func addLog(vendor map[string]any, log []byte, b Report) []tee.Failure {
	if len(log) == 0 {
		return nil
	}
	l, err := eventlog.ParseCCEL(log)
	if err != nil {
		return []tee.Failure{eventlog.FailureOf(err)}
	}
	proven := make(map[uint32][]byte, len(b.RTMR))
	for i, v := range b.RTMR {
		proven[eventlog.RTMR(i)] = v
	}
	facts, failures := l.Verify(eventlog.SHA384, proven)
	if len(failures) > 0 {
		return failures
	}
	maps.Copy(vendor, facts.Claims())
	return nil
}

func claimsFrom(r *dcap.Result, b Report) tee.Claims {
	body := clone(r.Quote.Body) // what the claims keep is theirs
	c := tee.Claims{
		TEE: tee.TDX, Debug: b.Debug(), Measurement: body[offMRTD : offMRTD+48], ReportData: body[offReportData : offReportData+64],
		Platform: r.Platform(), TCB: r.Status, Vendor: r.PlatformClaims(),
	}
	if !allZero(b.MRConfigID[:32]) && allZero(b.MRConfigID[32:]) {
		c.LaunchDigest = body[offMRConfigID : offMRConfigID+32]
	}
	addVendorClaims(c.Vendor, b, r.Quote.Body)
	return c
}

func addVendorClaims(m map[string]any, b Report, body []byte) {
	// All hex is cut from one string: a claim costs no allocation of its own.
	text := hex.EncodeToString(body)
	hexOf := func(off, size int) string { return text[2*off : 2*(off+size)] }
	m["mr_td"] = hexOf(offMRTD, 48)
	m["mr_seam"] = hexOf(offMRSEAM, 48)
	m["mr_signer_seam"] = hexOf(offMRSignerSEAM, 48)
	m["seam_attributes"] = hexOf(offSEAMAttributes, 8)
	m["td_attributes"] = attributeClaims(b.TDAttributes)
	m["xfam"] = hexOf(offXFAM, 8)
	m["mr_config_id"] = hexOf(offMRConfigID, 48)
	m["mr_owner"] = hexOf(offMROwner, 48)
	m["mr_owner_config"] = hexOf(offMROwnerConfig, 48)
	m["tee_tcb_svn"] = hexOf(offTEETCBSVN, 16)
	for i, name := range [...]string{"rtmr0", "rtmr1", "rtmr2", "rtmr3"} {
		m[name] = hexOf(offRTMR+48*i, 48)
	}
	if b.TEETCBSVN2 != nil {
		m["tee_tcb_svn_2"], m["mr_service_td"] = hexOf(offTEETCBSVN2, 16), hexOf(offMRServiceTD, 48)
	}
}

// attributeClaims spells TDATTRIBUTES out; "bits" is all of them, for the ones
// that have no name here yet.
func attributeClaims(a uint64) map[string]any {
	return map[string]any{
		"debug":           a&attributeDebug != 0,
		"sept_ve_disable": a&attributeSeptVEDisable != 0,
		"migratable":      a&attributeMigratable != 0,
		"pks":             a&attributePKS != 0,
		"kl":              a&attributeKL != 0,
		"perfmon":         a&attributePerfmon != 0,
		"bits":            a,
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
