package tpm

import (
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// Verifier verifies quotes: the form, who vouches for the attestation key, the
// signature, that the PCR values are the quoted ones, and that an event log, when
// there is one, replays to them.
//
// The attestation key is trusted when the relying party enrolled it (collateral
// [TrustedAK]), or when a certificate of it, in the statement, in
// Evidence.Certificates or in Endorsements.Certificates, leads to Input.Roots.
// There are no embedded roots. Endorsements.CRLs are revocation lists of the
// issuers in the chain; lists of others are ignored, and one that is given for an
// issuer must be current. Signatures with SHA-1 are refused.
//
// Claims of a verified quote: Measurement is the SHA-256 of the values of PCR 0 to
// 9 of the SHA-256 bank after each other, 32 bytes (what a quote of just these
// has as its digest, and "tpm2_pcrread sha256:0,1,2,3,4,5,6,7,8,9 -o f; sha256sum
// f" prints), whatever else is quoted; it is empty, and so equals nothing, when
// not all of them are quoted. It is not the quote's own digest, because that does
// not say of which registers it is, and PCR 16 and 23 can be given any value.
// ReportData is extraData. Platform is the SHA-256 of the attestation key
// ([KeyID]). Debug is true only if the log proves that the firmware's debugger was
// enabled, or that a debug launch was measured. Simulated is true when the key's
// certificate says that its TPM is emulated (tee.EmulatedTPM): nothing else tells
// an emulator from a chip, so a key that was enrolled is taken for a chip's. The
// TCB status is always Unknown.
//
// LaunchDigest, InstanceID, Signer, Product and SVN, and role, node_root,
// node_runtime, walls and missing_walls of Vendor, are what the first event of PCR
// 15 says, when the log proves one of our agents' (launch.Event). It is the guest's
// own word: anything that was booted can measure such an event, so they are worth
// as much as the Measurement beside them.
//
// Vendor has pcrs (by bank, "sha256", and index, in hex; the quoted ones and no
// others), clock, reset_count, restart_count, safe, firmware_version, ak_trust
// (enrolled or certificate), signature_scheme, event_log (whether one was given and
// replays), and the facts of the log (eventlog.Facts.Claims: secure_boot,
// kernel_command_line and others). The name of the key is no claim: what is trusted
// is the key, and nothing in evidence proves the rest of its public area.
//
// Findings: CodeRevocationUnknown when a revocation list of an issuer was not
// given; CodeUnsupported when only PCRs with SHA-1 are quoted, of which somebody
// who writes what is measured can make two with one value.
//
// It is pure and safe for concurrent use; the zero value works. The enrolled keys
// that were read last are remembered, which changes how long a verdict takes and
// never what it is.
type Verifier struct{ enrolled keyCache }

// New returns a verifier.
func New() *Verifier { return &Verifier{} }

// Kind is tee.TPM.
func (v *Verifier) Kind() tee.Kind { return tee.TPM }

// Detect reports whether data begins as one of the three formats.
func (v *Verifier) Detect(data []byte) bool {
	return isStatement(data) || isProtobuf(data) || isDump(data)
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report
// data is the expected one is for the caller to check. The error is a
// *tee.VerifyError that lists everything that is wrong: CodeUnknownFormat (other
// kind or format of evidence), CodeParse, CodeTime (Input.At is zero),
// CodeUnsupported (algorithms, or a key that is no attestation key), CodeChain,
// CodeExpired, CodeRevoked, CodeCollateralExpired, CodeSignature, CodeBinding
// (PCR values, or the certificate of another key), CodeEventLog.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	if ev.Kind != tee.TPM {
		return refuse(tee.Failure{Code: tee.CodeUnknownFormat, Claim: "tee", Want: string(tee.TPM), Got: fmt.Sprintf("%.32q", string(ev.Kind))})
	}
	var failures []tee.Failure
	if in.At.IsZero() {
		failures = append(failures, tee.Failure{Code: tee.CodeTime, Claim: "time", Want: "the time to verify at", Got: "none"})
	}
	s, err := ParseStatement(ev.Data)
	if err != nil {
		return refuse(append(failures, Failures(err)...)...)
	}
	ak := keyOf(s, ev, in, &v.enrolled)
	failures = append(failures, ak.failures...)
	signature, err := ParseSignature(s.Signature)
	if err != nil {
		return refuse(append(failures, Failures(err)...)...)
	}
	q, proven, more := checkQuote(s.Quote, signature, ak.key, s.PCRs)
	failures = append(failures, more...)
	log := ev.EventLog
	if len(log) == 0 {
		log = s.EventLog
	}
	facts, more := CheckLog(log, proven)
	failures = append(failures, more...)
	if len(failures) > 0 || q == nil {
		return refuse(failures...)
	}
	claims := claimsFrom(q, proven, ak, signature, facts)
	if failures := addLaunch(&claims, facts); len(failures) > 0 {
		return refuse(failures...)
	}
	return claims, append(ak.findings, weakBanks(proven)...), nil
}

func refuse(failures ...tee.Failure) (tee.Claims, []tee.Finding, error) {
	return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.TPM, Failures: failures}
}

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
