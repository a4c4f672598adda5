package snp

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// ReportSize is the size in bytes of an attestation report of every version.
const ReportSize = 0x4A0

// Where things are in a report (56860, table "ATTESTATION_REPORT Structure").
// All numbers are little endian.
const (
	offVersion    = 0x000
	offGuestSVN   = 0x004
	offPolicy     = 0x008
	offFamilyID   = 0x010
	offImageID    = 0x020
	offVMPL       = 0x030
	offAlgorithm  = 0x034
	offCurrentTCB = 0x038
	offPlatform   = 0x040
	offFlags      = 0x048
	offReportData = 0x050
	offMeasure    = 0x090
	offHostData   = 0x0C0
	offIDKey      = 0x0E0
	offAuthorKey  = 0x110
	offReportID   = 0x140
	offReportIDMA = 0x160
	offReported   = 0x180
	offCPUID      = 0x188
	offChipID     = 0x1A0
	offCommitted  = 0x1E0
	offCurrentFW  = 0x1E8
	offCommitFW   = 0x1EC
	offLaunchTCB  = 0x1F0
	signedSize    = 0x2A0
	offSigR       = 0x2A0
	offSigS       = 0x2E8
	sigScalar     = 72 // bytes of the little-endian r and s fields
	offSigPad     = 0x330
	p384Size      = 48
)

// algECDSAP384 is the only signature algorithm: ECDSA P-384 with SHA-384.
const algECDSAP384 = 1

// SigningKey says which key signed a report.
type SigningKey uint8

// The signing keys (56860, field SIGNING_KEY).
const (
	VCEK SigningKey = 0 // the chip's own versioned key
	VLEK SigningKey = 1 // a versioned key that AMD gave to a cloud provider
)

// String returns "vcek", "vlek" or the number.
func (k SigningKey) String() string {
	switch k {
	case VCEK:
		return "vcek"
	case VLEK:
		return "vlek"
	default:
		return fmt.Sprintf("signing key %d", uint8(k))
	}
}

// Report is a parsed attestation report. Nothing in it is true until
// [Verifier.Verify] said so. It does not alias the parsed bytes.
type Report struct {
	Version      uint32
	GuestSVN     uint32
	Policy       uint64
	FamilyID     [16]byte
	ImageID      [16]byte
	VMPL         uint32
	CurrentTCB   [8]byte
	PlatformInfo uint64
	AuthorKeyEn  bool
	MaskChipKey  bool
	SigningKey   SigningKey
	ReportData   [64]byte
	Measurement  [48]byte
	HostData     [32]byte
	IDKeyDigest  [48]byte
	AuthorDigest [48]byte
	ReportID     [32]byte
	ReportIDMA   [32]byte
	ReportedTCB  [8]byte
	CPUID        [3]byte // family, model, stepping; zero in version 2
	ChipID       [64]byte
	CommittedTCB [8]byte
	CurrentFW    [3]byte // build, minor, major
	CommittedFW  [3]byte
	LaunchTCB    [8]byte

	signed [signedSize]byte
	r, s   [p384Size]byte // big endian
}

// Debug reports whether the guest's policy lets the host decrypt its memory.
func (r *Report) Debug() bool { return r.Policy&policyDebug != 0 }

// ParseReport reads an attestation report. It refuses other sizes and padding
// that is not zero (CodeParse), and versions and signature algorithms that this
// package does not know (CodeUnsupported).
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, tee.Refuse(tee.SNP, tee.CodeParse, "report", fmt.Sprintf("%d bytes", ReportSize), fmt.Sprintf("%d bytes", len(b)),
			"pass the raw report, without a length or a certificate table around it")
	}
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	if v := u32(offVersion); v != 2 && v != 3 && v != 5 {
		return nil, tee.Refuse(tee.SNP, tee.CodeUnsupported, "version", "2, 3 or 5", fmt.Sprint(v), "the format of this report is not known to this build")
	}
	if a := u32(offAlgorithm); a != algECDSAP384 {
		return nil, tee.Refuse(tee.SNP, tee.CodeUnsupported, "signature algorithm", "1 (ECDSA P-384 with SHA-384)", fmt.Sprint(a), "")
	}
	flags := u32(offFlags)
	r := &Report{
		Version: u32(offVersion), GuestSVN: u32(offGuestSVN), Policy: u64(offPolicy), VMPL: u32(offVMPL), PlatformInfo: u64(offPlatform),
		AuthorKeyEn: flags&1 != 0, MaskChipKey: flags&2 != 0, SigningKey: SigningKey(flags >> 2 & 7),
	}
	copy(r.FamilyID[:], b[offFamilyID:])
	copy(r.ImageID[:], b[offImageID:])
	copy(r.CurrentTCB[:], b[offCurrentTCB:])
	copy(r.ReportData[:], b[offReportData:])
	copy(r.Measurement[:], b[offMeasure:])
	copy(r.HostData[:], b[offHostData:])
	copy(r.IDKeyDigest[:], b[offIDKey:])
	copy(r.AuthorDigest[:], b[offAuthorKey:])
	copy(r.ReportID[:], b[offReportID:])
	copy(r.ReportIDMA[:], b[offReportIDMA:])
	copy(r.ReportedTCB[:], b[offReported:])
	copy(r.ChipID[:], b[offChipID:])
	copy(r.CommittedTCB[:], b[offCommitted:])
	copy(r.CurrentFW[:], b[offCurrentFW:])
	copy(r.CommittedFW[:], b[offCommitFW:])
	copy(r.LaunchTCB[:], b[offLaunchTCB:])
	copy(r.signed[:], b)
	if r.Version >= 3 {
		copy(r.CPUID[:], b[offCPUID:])
	}
	if err := r.parseSignature(b); err != nil {
		return nil, err
	}
	return r, nil
}

// parseSignature reads r and s, 72-byte little-endian fields of which P-384
// uses 48, and wants everything around them to be zero.
func (r *Report) parseSignature(b []byte) error {
	for _, pad := range [][]byte{b[offSigR+p384Size : offSigR+sigScalar], b[offSigS+p384Size : offSigS+sigScalar], b[offSigPad:]} {
		if !allZero(pad) {
			return tee.Refuse(tee.SNP, tee.CodeParse, "signature padding", "zero", "other bytes", "the report was altered after it was made")
		}
	}
	copy(r.r[:], b[offSigR:])
	copy(r.s[:], b[offSigS:])
	slices.Reverse(r.r[:])
	slices.Reverse(r.s[:])
	return nil
}

// signature returns r and s as numbers.
func (r *Report) signature() (*big.Int, *big.Int) {
	return new(big.Int).SetBytes(r.r[:]), new(big.Int).SetBytes(r.s[:])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
