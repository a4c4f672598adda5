package tdx

import (
	"encoding/binary"
	"fmt"

	"github.com/cloister-cc/cloister/tee/dcap"
)

// Report is the body of a TD's quote. It shares memory with the bytes that it
// was read from. Sizes in bytes: 48 for measurements, 16 for security versions,
// 8 for attributes and XFAM, 64 for the report data.
type Report struct {
	TEETCBSVN      []byte
	MRSEAM         []byte
	MRSignerSEAM   []byte
	SEAMAttributes []byte
	TDAttributes   uint64
	XFAM           []byte
	MRTD           []byte
	MRConfigID     []byte
	MROwner        []byte
	MROwnerConfig  []byte
	RTMR           [4][]byte
	ReportData     []byte
	TEETCBSVN2     []byte // TDX 1.5; nil before
	MRServiceTD    []byte // TDX 1.5; nil before
}

// Where things are in a report ("TDX DCAP Quoting Library API", A.3.2 and A.3.3).
const (
	offTEETCBSVN      = 0
	offMRSEAM         = 16
	offMRSignerSEAM   = 64
	offSEAMAttributes = 112
	offTDAttributes   = 120
	offXFAM           = 128
	offMRTD           = 136
	offMRConfigID     = 184
	offMROwner        = 232
	offMROwnerConfig  = 280
	offRTMR           = 328
	offReportData     = 520
	offTEETCBSVN2     = 584
	offMRServiceTD    = 600
)

// Bits of TDATTRIBUTES ("TDX Module ABI Specification", TD_ATTRIBUTES).
const (
	attributeDebug         = 1 << 0
	attributesTUD          = 0xFF // all that let somebody look into the TD
	attributeSeptVEDisable = 1 << 28
	attributeMigratable    = 1 << 29
	attributePKS           = 1 << 30
	attributeKL            = 1 << 31
	attributePerfmon       = 1 << 63
)

// Debug says that the host can read and change the TD. The whole group of bits
// that DEBUG belongs to (TUD, "TD under debug") counts, for its other bits are
// reserved for the same.
func (r Report) Debug() bool { return r.TDAttributes&attributesTUD != 0 }

// ParseReport reads a report of [dcap.TD10BodySize] or [dcap.TD15BodySize]
// bytes.
func ParseReport(b []byte) (Report, error) {
	if len(b) != dcap.TD10BodySize && len(b) != dcap.TD15BodySize {
		return Report{}, fmt.Errorf("TD report of %d bytes: want %d or %d", len(b), dcap.TD10BodySize, dcap.TD15BodySize)
	}
	at := func(off, size int) []byte { return b[off : off+size : off+size] }
	r := Report{
		TEETCBSVN: at(offTEETCBSVN, 16), MRSEAM: at(offMRSEAM, 48), MRSignerSEAM: at(offMRSignerSEAM, 48), SEAMAttributes: at(offSEAMAttributes, 8),
		TDAttributes: binary.LittleEndian.Uint64(b[offTDAttributes:]), XFAM: at(offXFAM, 8), MRTD: at(offMRTD, 48), MRConfigID: at(offMRConfigID, 48),
		MROwner: at(offMROwner, 48), MROwnerConfig: at(offMROwnerConfig, 48), ReportData: at(offReportData, 64),
	}
	for i := range r.RTMR {
		r.RTMR[i] = at(offRTMR+48*i, 48)
	}
	if len(b) == dcap.TD15BodySize {
		r.TEETCBSVN2, r.MRServiceTD = at(offTEETCBSVN2, 16), at(offMRServiceTD, 48)
	}
	return r, nil
}
