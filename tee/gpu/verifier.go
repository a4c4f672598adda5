package gpu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/cloister-cc/cloister/tee"
)

// Verifier verifies reports: the form, the chain from the firmware's certificate by
// way of the device's to a root, the signature, and that the firmware which the
// certificate is for is the one that the report names.
//
// Evidence.Data is the SPDM request and the response after it, Evidence.Certificates
// the device's chain in its order: the firmware's, the device's, NVIDIA's. Trusted is
// only NVIDIA's embedded root, or Input.Roots in its place. Endorsements are not
// looked at.
//
// Claims of a verified report: Measurement is the SHA-384 of all measurements as they
// were signed; ReportData is the request's nonce, 32 bytes (attest.BindToShort);
// Platform is the SHA-256 of the device's public key, in hex; Debug is always true,
// see the package; the TCB status is Unknown. Others are empty. Vendor has
// measurements (hex, by index), firmware_id, driver_version, vbios_version, project,
// chip_sku and device (the subject of the device's certificate).
//
// Findings: CodeRevocationUnknown, always.
//
// It is pure and safe for concurrent use; the zero value works.
type Verifier struct{}

// New returns a verifier that has NVIDIA's root embedded.
func New() *Verifier { return &Verifier{} }

// Kind is tee.NvidiaGPU.
func (v *Verifier) Kind() tee.Kind { return tee.NvidiaGPU }

// Detect reports whether data begins as a request does, with a response after it.
func (v *Verifier) Detect(data []byte) bool {
	return len(data) >= requestSize+responseHeader && data[0] == spdm11 && data[1] == codeRequest && data[requestSize] == spdm11 && data[requestSize+1] == codeResponse
}

// Verify returns what the evidence proves; see [Verifier]. Whether the nonce is the
// expected one is for the caller to check. The error is a *tee.VerifyError that lists
// everything that is wrong: CodeUnknownFormat (other kind of evidence), CodeTime
// (Input.At is zero), CodeParse, CodeUnsupported, CodeChain, CodeExpired,
// CodeSignature, CodeBinding (other firmware than the certificate's).
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	if ev.Kind != tee.NvidiaGPU {
		return tee.Claims{}, nil, refuse(tee.CodeUnknownFormat, "tee", string(tee.NvidiaGPU), fmt.Sprintf("%.32q", string(ev.Kind)))
	}
	c := &check{}
	var certified *chain
	if in.At.IsZero() {
		c.fail(tee.CodeTime, "time", "the time to verify at", "none", "")
	} else {
		certified = c.checkChain(ev.Certificates, in)
	}
	r, err := ParseReport(ev.Data)
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		c.failures = append(c.failures, e.Failures...)
	}
	if r != nil && certified != nil {
		c.checkReport(r, certified)
	}
	if len(c.failures) > 0 || r == nil || certified == nil {
		return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.NvidiaGPU, Failures: c.failures}
	}
	finding := tee.Finding{Code: tee.CodeRevocationUnknown, Detail: "NVIDIA publishes no revocation lists of devices"}
	return claimsFrom(r, certified), []tee.Finding{finding}, nil
}

// check collects what is found about one report.
type check struct{ failures []tee.Failure }

func (c *check) fail(code tee.Code, claim, want, got, hint string) {
	c.failures = append(c.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

func (c *check) checkReport(r *Report, by *chain) {
	digest := sha512.Sum384(r.signed)
	x, y := r.scalars()
	if !ecdsa.Verify(by.key, digest[:], x, y) {
		c.fail(tee.CodeSignature, "signature", "by the key in certificate 0", "not by it", "the report was altered, or another device signed it")
	}
	want, err := firmware(by.leaf)
	if err != nil {
		c.fail(tee.CodeParse, "certificate 0", "with the firmware's id", err.Error(), "")
	}
	if got := r.Opaque[fieldFWID]; err == nil && (want == nil || !bytes.Equal(want, got)) {
		c.fail(tee.CodeBinding, "firmware id", hex.EncodeToString(want), fmt.Sprintf("%.128x", got), "the certificate is for other firmware")
	}
}

func claimsFrom(r *Report, by *chain) tee.Claims {
	measurement := sha512.Sum384(r.Record)
	device := sha256.Sum256(by.device.RawSubjectPublicKeyInfo)
	measurements := make(map[string]any, len(r.Measurements))
	for _, m := range r.Measurements {
		measurements[fmt.Sprint(m.Index)] = hex.EncodeToString(m.Value)
	}
	return tee.Claims{
		TEE: tee.NvidiaGPU, Debug: true, Measurement: measurement[:], ReportData: bytes.Clone(r.Nonce), Platform: hex.EncodeToString(device[:]), TCB: tee.TCBUnknown,
		Vendor: map[string]any{
			"measurements":   measurements,
			"firmware_id":    hex.EncodeToString(r.Opaque[fieldFWID]),
			"driver_version": text(r.Opaque[fieldDriver]),
			"vbios_version":  vbiosVersion(r.Opaque[fieldVBIOS]),
			"project":        text(r.Opaque[fieldProject]),
			"chip_sku":       text(r.Opaque[fieldChipSKU]),
			"device":         text([]byte(by.device.Subject.String())),
		},
	}
}

// text is a field that ends in zeroes, empty where it is none.
func text(b []byte) string {
	s := strings.TrimRight(string(b), "\x00")
	if len(s) > maxText*4 || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return ""
	}
	return s
}

// vbiosVersion spells the version as NVIDIA does, 96.00.9F.00.01: the lower half of
// the number, then the lowest byte of the upper half.
func vbiosVersion(b []byte) string {
	if len(b) != 8 {
		return ""
	}
	return fmt.Sprintf("%02X.%02X.%02X.%02X.%02X", b[3], b[2], b[1], b[0], b[4])
}

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
