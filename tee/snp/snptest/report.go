package snptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"slices"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// Report returns a good report of a guest, of version 3, that fits the key. Its
// measurement and report data are not zero.
func (k *Key) Report() snp.Report {
	r := snp.Report{Version: 3, Policy: 0x30000, PlatformInfo: 0x25, SigningKey: k.Kind}
	r.CPUID = map[snp.Product][3]byte{snp.Milan: {0x19, 0x01, 1}, snp.Genoa: {0x19, 0x11, 1}, snp.Turin: {0x1A, 0x02, 1}}[k.Product]
	tcb := TCBBytes(k.Product, k.TCB)
	r.CurrentTCB, r.ReportedTCB, r.CommittedTCB, r.LaunchTCB = tcb, tcb, tcb, tcb
	r.CurrentFW, r.CommittedFW = [3]byte{29, 55, 1}, [3]byte{29, 55, 1}
	copy(r.ChipID[:], k.ChipID)
	for i := range r.Measurement {
		r.Measurement[i] = byte(i + 1)
	}
	r.ReportData[0], r.ReportID[0] = 0xDA, 0x1D
	for i := range r.ReportIDMA {
		r.ReportIDMA[i] = 0xFF // no migration agent
	}
	return r
}

// TCBBytes is how a report of product p spells t (56860, table "TCB_VERSION").
func TCBBytes(p snp.Product, t snp.TCB) [8]byte {
	if p == snp.Turin {
		return [8]byte{0: t.FMC, 1: t.Bootloader, 2: t.TEE, 3: t.SNP, 7: t.Microcode}
	}
	return [8]byte{0: t.Bootloader, 1: t.TEE, 6: t.SNP, 7: t.Microcode}
}

// Encode returns the bytes of a report (56860, table "ATTESTATION_REPORT
// Structure") with a signature of zeroes.
func Encode(r snp.Report) []byte {
	b := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x000:], r.Version)
	le.PutUint32(b[0x004:], r.GuestSVN)
	le.PutUint64(b[0x008:], r.Policy)
	copy(b[0x010:], r.FamilyID[:])
	copy(b[0x020:], r.ImageID[:])
	le.PutUint32(b[0x030:], r.VMPL)
	le.PutUint32(b[0x034:], 1)
	copy(b[0x038:], r.CurrentTCB[:])
	le.PutUint64(b[0x040:], r.PlatformInfo)
	le.PutUint32(b[0x048:], flags(r))
	copy(b[0x050:], r.ReportData[:])
	copy(b[0x090:], r.Measurement[:])
	copy(b[0x0C0:], r.HostData[:])
	copy(b[0x0E0:], r.IDKeyDigest[:])
	copy(b[0x110:], r.AuthorDigest[:])
	copy(b[0x140:], r.ReportID[:])
	copy(b[0x160:], r.ReportIDMA[:])
	copy(b[0x180:], r.ReportedTCB[:])
	if r.Version >= 3 {
		copy(b[0x188:], r.CPUID[:])
	}
	copy(b[0x1A0:], r.ChipID[:])
	copy(b[0x1E0:], r.CommittedTCB[:])
	copy(b[0x1E8:], r.CurrentFW[:])
	copy(b[0x1EC:], r.CommittedFW[:])
	copy(b[0x1F0:], r.LaunchTCB[:])
	return b
}

func flags(r snp.Report) uint32 {
	f := uint32(r.SigningKey) << 2
	if r.AuthorKeyEn {
		f |= 1
	}
	if r.MaskChipKey {
		f |= 2
	}
	return f
}

// Sign puts the key's signature into the bytes of a report, in place, and
// returns them.
func (k *Key) Sign(b []byte) []byte {
	digest := sha512.Sum384(b[:0x2A0])
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		panic(err) // only if the system has no random numbers
	}
	clear(b[0x2A0:])
	for off, n := range map[int][]byte{0x2A0: r.FillBytes(make([]byte, 48)), 0x2E8: s.FillBytes(make([]byte, 48))} {
		slices.Reverse(n) // little endian
		copy(b[off:], n)
	}
	return b
}

// Evidence returns a signed report with the key's certificate beside it.
func (k *Key) Evidence(r snp.Report) tee.Evidence {
	return tee.Evidence{Kind: tee.SNP, Data: k.Sign(Encode(r)), Certificates: [][]byte{k.Certificate}}
}

// Guest is a guest on a processor that has Key: a [tee.Attester] whose reports
// are Template with the report data of each request.
type Guest struct {
	Key      *Key
	Template snp.Report
}

// Kind is tee.SNP.
func (g *Guest) Kind() tee.Kind { return tee.SNP }

// Evidence returns a report with reportData.
func (g *Guest) Evidence(_ context.Context, reportData [64]byte) (tee.Evidence, error) {
	r := g.Template
	r.ReportData = reportData
	return g.Key.Evidence(r), nil
}

// Interface guard.
var _ tee.Attester = (*Guest)(nil)
