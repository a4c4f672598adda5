package dcap

import "encoding/binary"

// EnclaveReport is the body of a quote of an SGX enclave, and the report of the
// quoting enclave ("Intel 64 and IA-32 Architectures Software Developer's
// Manual" vol. 3D, REPORT structure). It shares memory with the bytes that it
// was read from.
type EnclaveReport struct {
	CPUSVN       []byte // 16 bytes
	MiscSelect   uint32
	ISVExtProdID []byte // 16 bytes
	Attributes   []byte // 16 bytes: flags, then XFRM
	MRENCLAVE    []byte // 32 bytes
	MRSIGNER     []byte // 32 bytes
	ConfigID     []byte // 64 bytes
	ISVProdID    uint16
	ISVSVN       uint16
	ConfigSVN    uint16
	ISVFamilyID  []byte // 16 bytes
	ReportData   []byte // 64 bytes
}

// enclaveDebug is the attribute that lets the host read and write an enclave.
const enclaveDebug = 0x02

// Debug says that the host can read and change the enclave.
func (r EnclaveReport) Debug() bool { return r.Attributes[0]&enclaveDebug != 0 }

// ParseEnclaveReport reads a report of [EnclaveBodySize] bytes; it panics on any
// other size.
func ParseEnclaveReport(b []byte) EnclaveReport {
	b = b[:EnclaveBodySize:EnclaveBodySize]
	return EnclaveReport{
		CPUSVN: b[0:16], MiscSelect: binary.LittleEndian.Uint32(b[16:]), ISVExtProdID: b[32:48], Attributes: b[48:64],
		MRENCLAVE: b[64:96], MRSIGNER: b[128:160], ConfigID: b[192:256],
		ISVProdID: binary.LittleEndian.Uint16(b[256:]), ISVSVN: binary.LittleEndian.Uint16(b[258:]), ConfigSVN: binary.LittleEndian.Uint16(b[260:]),
		ISVFamilyID: b[304:320], ReportData: b[320:384],
	}
}
