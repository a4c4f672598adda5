package azure

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// HardwareReportSize is the size in bytes of the hardware's report inside: a
// report of SEV-SNP, or a TDREPORT with zeroes after it.
const HardwareReportSize = 1184

// Where things are in a paravisor's report. All numbers are little endian.
const (
	offVersion  = 4
	offSize     = 8
	offHardware = 32
	offHeader   = offHardware + HardwareReportSize // of the runtime data
	offData     = offHeader + 20
	maxReport   = 4 << 10 // the NV index has 2600
)

// What kind of hardware report is inside.
const (
	reportSNP = 2
	reportTDX = 4
)

// hashSHA256 is the only way in which the hardware's report data commits to the
// runtime data: the SHA-256 and 32 zeroes.
const hashSHA256 = 1

// hclMagic begins a paravisor's report.
var hclMagic = []byte("HCLA")

// Report is a parsed report of the paravisor. Nothing in it is true until a
// [Verifier] said so. Only RuntimeData is covered by the hardware's signature, by
// its digest.
type Report struct {
	Version     uint32
	TDX         bool   // what kind of hardware report it is
	Hardware    []byte // HardwareReportSize bytes
	RuntimeData []byte // JSON
}

// ParseReport reads a paravisor's report: the contents of the vTPM's NV index
// 0x01400001. Zeroes may follow. Errors are *tee.VerifyError of the given kind:
// CodeParse, and CodeUnsupported for other versions and digests.
func ParseReport(kind tee.Kind, b []byte) (*Report, error) {
	bad := func(code tee.Code, want, got string) (*Report, error) {
		return nil, tee.Refuse(kind, code, "hcl report", want, got, "")
	}
	if len(b) < offData || len(b) > maxReport || !bytes.HasPrefix(b, hclMagic) {
		return bad(tee.CodeParse, fmt.Sprintf("HCLA and %d to %d bytes", offData, maxReport), fmt.Sprintf("%d bytes", len(b)))
	}
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	total, header, reportType, hash, size := u32(offHeader), u32(offHeader+4), u32(offHeader+8), u32(offHeader+12), u32(offHeader+16)
	switch {
	case u32(offVersion) != 1 && u32(offVersion) != 2 || header != 1:
		return bad(tee.CodeUnsupported, "version 1 or 2 with runtime data of version 1", fmt.Sprintf("versions %d and %d", u32(offVersion), header))
	case reportType != reportSNP && reportType != reportTDX:
		return bad(tee.CodeUnsupported, "a report of SEV-SNP or TDX", fmt.Sprintf("type %d", reportType))
	case hash != hashSHA256:
		return bad(tee.CodeUnsupported, "runtime data bound by SHA-256", fmt.Sprintf("hash %d", hash))
	case size == 0 || int64(size) > int64(len(b)-offData) || total != size+20 || u32(offSize) != offData+size:
		return bad(tee.CodeParse, "sizes that agree", fmt.Sprintf("%d bytes say %d, %d and %d", len(b), u32(offSize), total, size))
	case len(bytes.Trim(b[offData+int(size):], "\x00")) > 0:
		return bad(tee.CodeParse, "zeroes after the runtime data", "other bytes")
	}
	return &Report{
		Version: u32(offVersion), TDX: reportType == reportTDX,
		Hardware: bytes.Clone(b[offHardware:offHeader]), RuntimeData: bytes.Clone(b[offData : offData+int(size)]),
	}, nil
}

// ReportData is what the hardware's report data has to be: the SHA-256 of the
// runtime data and 32 zeroes.
func (r *Report) ReportData() [64]byte {
	var d [64]byte
	sum := sha256.Sum256(r.RuntimeData)
	copy(d[:], sum[:])
	return d
}

// failuresOf returns the failures of an error of this package or of package tpm.
func failuresOf(err error) []tee.Failure {
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		return e.Failures
	}
	return []tee.Failure{{Code: tee.CodeParse, Claim: "evidence", Got: fmt.Sprintf("%.200s", err.Error())}}
}
