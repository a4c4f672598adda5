package azure

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Verifier verifies evidence of one kind of Azure's confidential VMs: the
// hardware's report or quote with the verifier that it was made with, that its
// report data commits to the paravisor's runtime data, that the key named there
// signed the vTPM's quote, that the PCR values are the quoted ones, and that an
// event log (Evidence.EventLog), when there is one, replays to them.
//
// Input goes to the hardware's verifier as it is: its roots, lists and collateral
// are those of the hardware. For SEV-SNP the VCEK is the envelope's, or beside the
// evidence, or among the endorsements. The vTPM's key needs no certificate.
//
// Claims of verified evidence: Measurement, Debug, Simulated, Platform and the TCB
// status are the hardware's, where the measurement is of the paravisor; ReportData
// is the quote's extraData and not the hardware's report data, which is the
// paravisor's; InstanceID is the VM's id. What the VM booted is in the PCRs.
// Vendor has hardware (all vendor claims of the hardware's verifier),
// vm_configuration (the settings in the runtime data: vm_id, secure_boot,
// console_enabled, tpm_enabled and others), user_data (hex), pcrs (the quoted
// ones, as sha256 and index, in hex), pcr_measurement (hex; see tpm.Measurement),
// clock, reset_count, restart_count, safe, firmware_version, event_log, and the
// facts of the log (eventlog.Facts.Claims).
//
// Findings are those of the hardware's verifier.
//
// It is pure and safe for concurrent use if the hardware's verifier is. The zero
// value refuses everything.
type Verifier struct {
	kind     tee.Kind
	hardware tee.Verifier
}

// NewSNP returns a verifier for VMs on SEV-SNP. hardware verifies reports of
// SEV-SNP: snp.New().
func NewSNP(hardware tee.Verifier) *Verifier {
	return &Verifier{kind: tee.AzureSNP, hardware: hardware}
}

// NewTDX returns a verifier for VMs on TDX. hardware verifies quotes of TDX:
// tdx.New().
func NewTDX(hardware tee.Verifier) *Verifier {
	return &Verifier{kind: tee.AzureTDX, hardware: hardware}
}

// Kind is tee.AzureSNP or tee.AzureTDX.
func (v *Verifier) Kind() tee.Kind { return v.kind }

// below is the kind of the hardware.
func (v *Verifier) below() tee.Kind {
	switch v.kind {
	case tee.AzureSNP:
		return tee.SNP
	case tee.AzureTDX:
		return tee.TDX
	default:
		return ""
	}
}

// Detect reports whether data looks like an envelope, or a paravisor's report
// alone, of this kind of VM.
func (v *Verifier) Detect(data []byte) bool {
	if bytes.HasPrefix(data, hclMagic) && len(data) >= offData {
		return v.kind == kindOf(binary.LittleEndian.Uint32(data[offHeader+8:]))
	}
	has := func(name string) bool { return bytes.Contains(data, []byte(`"`+name+`"`)) }
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) || !has("message") || !has("hcl_report") && !has("report") {
		return false
	}
	return has("td_quote") == (v.kind == tee.AzureTDX) && v.kind != ""
}

// kindOf is the kind of VM for a type of report, "" if there is none.
func kindOf(reportType uint32) tee.Kind {
	switch reportType {
	case reportSNP:
		return tee.AzureSNP
	case reportTDX:
		return tee.AzureTDX
	default:
		return ""
	}
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report data
// is the expected one is for the caller to check. The error is a *tee.VerifyError
// that lists everything that is wrong in all layers; claims of failures of the
// hardware begin with "hardware: ". Beside the codes of the hardware's verifier:
// CodeUnknownFormat (other kind of evidence), CodeParse, CodeUnsupported (no
// verifier for the hardware, a report that the paravisor did not ask for, another
// version), CodeBinding (report data, PCR values, no quote at all), CodeSignature
// (the quote is not by the named key, or there is no TD quote), CodeEventLog.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	c := &check{v: v}
	if v.hardware == nil || v.below() == "" || v.hardware.Kind() != v.below() {
		c.fail(tee.CodeUnsupported, "verifier", "one with a verifier of its hardware", "none", "make it with NewSNP or NewTDX")
		return c.refuse()
	}
	if ev.Kind != v.kind {
		c.fail(tee.CodeUnknownFormat, "tee", string(v.kind), fmt.Sprintf("%.32q", string(ev.Kind)), "")
		return c.refuse()
	}
	e := c.envelope(ev.Data)
	if e == nil {
		return c.refuse()
	}
	report, err := ParseReport(v.kind, e.HCLReport)
	if err != nil {
		c.add(failuresOf(err))
		return c.refuse()
	}
	c.checkHardware(report, e, ev, in)
	runtime, err := parseRuntimeData(v.kind, report.RuntimeData)
	if err != nil {
		c.add(failuresOf(err))
		return c.refuse()
	}
	if e.Message == nil {
		c.fail(tee.CodeBinding, "tpm quote", "a quote of the vTPM beside the paravisor's report", "none", "the report says which key is the vTPM's, and nothing that is fresh")
		return c.refuse()
	}
	quote, proven, failures := tpm.CheckQuote(e.Message, &tpm.Signature{Scheme: tpm.RSASSA, Hash: eventlog.SHA256, RSA: e.Signature}, runtime.ak, e.banks())
	c.add(failures)
	facts, failures := tpm.CheckLog(ev.EventLog, proven)
	c.add(failures)
	if len(c.failures) > 0 || quote == nil {
		return c.refuse()
	}
	return claimsFrom(v.kind, c.hardware, runtime, quote, proven, facts), c.findings, nil
}

// check collects what is found about one piece of evidence.
type check struct {
	v        *Verifier
	hardware tee.Claims
	failures []tee.Failure
	findings []tee.Finding
}

func (c *check) fail(code tee.Code, claim, want, got, hint string) {
	c.failures = append(c.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

func (c *check) add(failures []tee.Failure) { c.failures = append(c.failures, failures...) }

func (c *check) refuse() (tee.Claims, []tee.Finding, error) {
	return tee.Claims{}, nil, &tee.VerifyError{Kind: c.v.kind, Failures: c.failures}
}

// envelope reads the evidence. A paravisor's report alone is one without a quote.
func (c *check) envelope(data []byte) *Envelope {
	if bytes.HasPrefix(data, hclMagic) {
		return &Envelope{HCLReport: data}
	}
	e, err := ParseEnvelope(c.v.kind, data)
	if err != nil {
		c.add(failuresOf(err))
		return nil
	}
	if e.Message == nil { // an empty one is none, and must not pass as a report alone
		e.Message = []byte{}
	}
	return e
}

// checkHardware verifies the hardware's report or quote and what it commits to.
func (c *check) checkHardware(r *Report, e *Envelope, ev tee.Evidence, in tee.Input) {
	if r.TDX != (c.v.kind == tee.AzureTDX) {
		c.fail(tee.CodeProduct, "hcl report", "one on "+string(c.v.below()), "one on other hardware", "")
		return
	}
	below := tee.Evidence{Kind: c.v.below(), Data: r.Hardware, Certificates: slices.Concat(e.VCEK, ev.Certificates)}
	if r.TDX {
		// The TDREPORT in the paravisor's report is authenticated for the machine that
		// made it and for nobody else. What counts is the quote.
		if below.Data = e.TDQuote; len(below.Data) == 0 {
			c.fail(tee.CodeSignature, "td_quote", "the quote for the TDREPORT", "none", "a TDREPORT has a MAC that only its own machine can check")
			return
		}
	}
	claims, findings, err := c.v.hardware.Verify(below, in)
	reportData := claims.ReportData
	if err != nil {
		for _, f := range failuresOf(err) {
			f.Claim = "hardware: " + f.Claim
			c.failures = append(c.failures, f)
		}
		if r.TDX {
			return // where the report data is, only its verifier knows
		}
		reportData = r.Hardware[snpReportData:][:64]
	}
	if want := r.ReportData(); !bytes.Equal(reportData, want[:]) {
		c.fail(tee.CodeBinding, "runtime data", "report data "+hex.EncodeToString(want[:]), hex.EncodeToString(reportData), "the hardware vouches for other runtime data")
	}
	// A guest below the paravisor could ask for a report too, and choose its report
	// data, if the hypervisor let it: the paravisor is what runs at level 0.
	if vmpl, ok := claims.Vendor["vmpl"].(uint64); err == nil && !r.TDX && (!ok || vmpl != 0) {
		c.fail(tee.CodeUnsupported, "hardware: vmpl", "0", fmt.Sprint(claims.Vendor["vmpl"]), "the paravisor did not ask for this report")
	}
	c.hardware, c.findings = claims, findings
}

// snpReportData is where a report of SEV-SNP has its report data.
const snpReportData = 0x50

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
