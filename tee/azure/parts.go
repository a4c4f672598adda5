package azure

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// BuildReport puts a paravisor's report together again, from evidence that has its
// parts: the hardware's report, which for TDX is not needed where there is a quote
// and then nil, and the runtime data. The header that is made up is one that
// nothing is proven by. Errors are *tee.VerifyError with CodeParse.
func BuildReport(kind tee.Kind, hardware, runtimeData []byte) ([]byte, error) {
	reportType := uint32(reportSNP)
	if kind == tee.AzureTDX {
		reportType = reportTDX
		if hardware == nil {
			hardware = make([]byte, HardwareReportSize)
		}
	}
	if len(hardware) != HardwareReportSize {
		return nil, tee.Refuse(kind, tee.CodeParse, "hardware report", fmt.Sprintf("%d bytes", HardwareReportSize), fmt.Sprintf("%d bytes", len(hardware)), "")
	}
	if len(runtimeData) == 0 || len(runtimeData) > maxReport-offData {
		return nil, tee.Refuse(kind, tee.CodeParse, "runtime data", fmt.Sprintf("1 to %d bytes", maxReport-offData), fmt.Sprintf("%d bytes", len(runtimeData)), "")
	}
	size := uint32(len(runtimeData))
	le := binary.LittleEndian
	b := append(bytes.Clone(hclMagic), make([]byte, offHardware-len(hclMagic))...)
	le.PutUint32(b[offVersion:], 1)
	le.PutUint32(b[offSize:], offData+size)
	b = append(b, hardware...)
	for _, n := range []uint32{offData - offHeader + size, 1, reportType, hashSHA256, size} {
		b = le.AppendUint32(b, n)
	}
	return append(b, runtimeData...), nil
}

// AttestationKey returns the key of the vTPM that runtime data names. It is as
// true as the runtime data: a [Verifier] proves those. Errors are *tee.VerifyError.
func AttestationKey(kind tee.Kind, runtimeData []byte) (*rsa.PublicKey, error) {
	r, err := parseRuntimeData(kind, runtimeData)
	if err != nil {
		return nil, err
	}
	return r.ak, nil
}
