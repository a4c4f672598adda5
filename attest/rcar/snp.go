package rcar

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// The evidence of SEV-SNP holds a report not as bytes but as the JSON of the Rust
// structure that they were read into (crate sev, 6.2 and later). The bytes are
// rebuilt here. Whether that was exact needs no faith: AMD's signature covers
// every byte that a claim comes from, and the verifier checks it over these. A
// report with a field that the structure lacks, such as one of version 5 from a
// guest with sev 6.2, fails there.

type snpEvidence struct {
	Report snpReport        `json:"attestation_report"`
	Chain  []snpCertificate `json:"cert_chain"`
}

type snpReport struct {
	Version       uint32       `json:"version"`
	GuestSVN      uint32       `json:"guest_svn"`
	Policy        uint64       `json:"policy"`
	FamilyID      octets       `json:"family_id"`
	ImageID       octets       `json:"image_id"`
	VMPL          uint32       `json:"vmpl"`
	Algorithm     uint32       `json:"sig_algo"`
	CurrentTCB    snpTCB       `json:"current_tcb"`
	Platform      uint64       `json:"plat_info"`
	Flags         uint32       `json:"key_info"`
	ReportData    octets       `json:"report_data"`
	Measurement   octets       `json:"measurement"`
	HostData      octets       `json:"host_data"`
	IDKey         octets       `json:"id_key_digest"`
	AuthorKey     octets       `json:"author_key_digest"`
	ReportID      octets       `json:"report_id"`
	ReportIDMA    octets       `json:"report_id_ma"`
	ReportedTCB   snpTCB       `json:"reported_tcb"`
	Family        *uint8       `json:"cpuid_fam_id"` // null in version 2
	Model         *uint8       `json:"cpuid_mod_id"`
	Stepping      *uint8       `json:"cpuid_step"`
	ChipID        octets       `json:"chip_id"`
	CommittedTCB  snpTCB       `json:"committed_tcb"`
	Current       snpFirmware  `json:"current"`
	Committed     snpFirmware  `json:"committed"`
	LaunchTCB     snpTCB       `json:"launch_tcb"`
	LaunchVector  *uint64      `json:"launch_mit_vector"` // from version 5 on
	CurrentVector *uint64      `json:"current_mit_vector"`
	Signature     snpSignature `json:"signature"`
}

type snpTCB struct {
	FMC        *uint8 `json:"fmc"` // of Turin
	Bootloader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

type snpFirmware struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

type snpSignature struct {
	R octets `json:"r"`
	S octets `json:"s"`
}

// snpCertificate is an entry of the host's certificate table. Kind is a name, or
// an object {"OTHER": GUID}.
type snpCertificate struct {
	Kind json.RawMessage `json:"cert_type"`
	Data octets          `json:"data"`
}

// octets are bytes as Rust's serde writes them: an array of numbers.
type octets []byte

// UnmarshalJSON reads an array of numbers from 0 to 255. It is well-formed JSON
// already. encoding/json would take null for 0 in it, and base64 in its place.
func (o *octets) UnmarshalJSON(b []byte) error {
	if b[0] != '[' {
		return errors.New("want an array of bytes")
	}
	*o = make(octets, 0, len(b)/2)
	if len(bytes.TrimSpace(b[1:len(b)-1])) == 0 {
		return nil
	}
	for item := range bytes.SplitSeq(b[1:len(b)-1], []byte{','}) {
		n, err := strconv.ParseUint(string(bytes.TrimSpace(item)), 10, 8)
		if err != nil {
			return errors.New("want an array of bytes")
		}
		*o = append(*o, byte(n))
	}
	return nil
}

func readSNP(b json.RawMessage) (tee.Evidence, error) {
	var w snpEvidence
	if err := decode(b, &w); err != nil {
		return tee.Evidence{}, refuse("evidence of SEV-SNP: want attestation_report as the crate sev 6.2 or later writes it, and cert_chain")
	}
	report, ok := w.Report.bytes()
	if !ok {
		return tee.Evidence{}, refuse("attestation_report: want every field in its size, and the fields of its version")
	}
	ev := tee.Evidence{Data: report}
	for _, c := range w.Chain {
		switch string(c.Kind) {
		case `"VCEK"`, `"VLEK"`, `"ASK"`, `"ARK"`:
			ev.Certificates = append(ev.Certificates, c.Data)
		}
		// Others are a host's own.
	}
	return ev, nil
}

// bytes rebuilds the report (AMD 56860, table "ATTESTATION_REPORT Structure").
func (r *snpReport) bytes() ([]byte, bool) {
	b := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	ok := true
	put := func(offset, size int, value octets) {
		ok = ok && len(value) == size
		copy(b[offset:offset+size], value)
	}
	tcb := func(offset int, t snpTCB) { put(offset, 8, t.bytes()) }
	le.PutUint32(b[0x000:], r.Version)
	le.PutUint32(b[0x004:], r.GuestSVN)
	le.PutUint64(b[0x008:], r.Policy)
	put(0x010, 16, r.FamilyID)
	put(0x020, 16, r.ImageID)
	le.PutUint32(b[0x030:], r.VMPL)
	le.PutUint32(b[0x034:], r.Algorithm)
	tcb(0x038, r.CurrentTCB)
	le.PutUint64(b[0x040:], r.Platform)
	le.PutUint32(b[0x048:], r.Flags)
	put(0x050, 64, r.ReportData)
	put(0x090, 48, r.Measurement)
	put(0x0C0, 32, r.HostData)
	put(0x0E0, 48, r.IDKey)
	put(0x110, 48, r.AuthorKey)
	put(0x140, 32, r.ReportID)
	put(0x160, 32, r.ReportIDMA)
	tcb(0x180, r.ReportedTCB)
	if r.Version >= 3 && r.Family != nil && r.Model != nil && r.Stepping != nil {
		put(0x188, 3, octets{*r.Family, *r.Model, *r.Stepping})
	} else {
		ok = ok && r.Version < 3 && r.Family == nil && r.Model == nil && r.Stepping == nil
	}
	put(0x1A0, 64, r.ChipID)
	tcb(0x1E0, r.CommittedTCB)
	put(0x1E8, 3, r.Current.bytes())
	put(0x1EC, 3, r.Committed.bytes())
	tcb(0x1F0, r.LaunchTCB)
	if r.LaunchVector != nil && r.CurrentVector != nil {
		le.PutUint64(b[0x1F8:], *r.LaunchVector)
		le.PutUint64(b[0x200:], *r.CurrentVector)
	}
	ok = ok && (r.LaunchVector == nil) == (r.CurrentVector == nil)
	put(0x2A0, 72, r.Signature.R)
	put(0x2E8, 72, r.Signature.S)
	return b, ok
}

// bytes is the TCB as its product has it: with an FMC it is a Turin's.
func (t snpTCB) bytes() octets {
	if t.FMC != nil {
		return octets{*t.FMC, t.Bootloader, t.TEE, t.SNP, 0, 0, 0, t.Microcode}
	}
	return octets{t.Bootloader, t.TEE, 0, 0, 0, 0, t.SNP, t.Microcode}
}

func (f snpFirmware) bytes() octets { return octets{f.Build, f.Minor, f.Major} }
