package snp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tsm"
)

// Attester gets attestation reports inside a guest of SEV-SNP from the kernel
// (configfs-tsm). The zero value asks the running kernel. It is safe for
// concurrent use.
type Attester struct {
	// TSM asks for reports; tests put a fake in its place.
	TSM tsm.Client
}

// Kind is tee.SNP.
func (a Attester) Kind() tee.Kind { return tee.SNP }

// Evidence returns a report over reportData, with the certificates that the host
// gave the guest, if any; else the verifier needs the VCEK from elsewhere. The
// error is a *tee.Error with CodeUnavailable: this is no guest of SEV-SNP.
func (a Attester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	const op = "get a report of this guest"
	r, err := a.TSM.Report(ctx, reportData)
	if err != nil {
		return tee.Evidence{}, err
	}
	if r.Provider != tsm.SEVGuest {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: errors.New("the kernel's reports are by " + r.Provider), Hint: "this is not a guest of SEV-SNP"}
	}
	certs, err := ParseCertificateTable(r.Auxiliary)
	if err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err, Hint: "the host gave the guest a malformed certificate table"}
	}
	return tee.Evidence{Kind: tee.SNP, Data: r.Evidence, Certificates: certs}, nil
}

// certificateGUIDs name the entries of a certificate table that are kept, in the
// order in which their bytes lie there ("Guest Hypervisor Communication Block",
// 56421, section 4.1.8.1): VCEK, VLEK, ASK and ARK. Others are a host's own.
var certificateGUIDs = [...][16]byte{
	{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd},
	{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1},
	{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82},
	{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae},
}

const (
	tableEntry    = 24 // GUID, offset, length
	maxTable      = 64 << 10
	maxTableCerts = 16
)

// ParseCertificateTable reads the table of certificates that a host gives its
// guests with an extended report, and returns those of AMD's chain in DER. Empty
// is no table.
func ParseCertificateTable(b []byte) ([][]byte, error) {
	if len(b) > maxTable {
		return nil, fmt.Errorf("certificate table of %d bytes: at most %d", len(b), maxTable)
	}
	var certs [][]byte
	for at := 0; at+tableEntry <= len(b); at += tableEntry {
		guid := [16]byte(b[at : at+16])
		if guid == ([16]byte{}) {
			return certs, nil
		}
		off, size := uint64(binary.LittleEndian.Uint32(b[at+16:])), uint64(binary.LittleEndian.Uint32(b[at+20:]))
		if off+size > uint64(len(b)) {
			return nil, fmt.Errorf("certificate table: entry %d lies outside", at/tableEntry)
		}
		if !known(guid) || size == 0 {
			continue
		}
		if len(certs) == maxTableCerts {
			return nil, fmt.Errorf("certificate table: more than %d certificates", maxTableCerts)
		}
		certs = append(certs, append([]byte(nil), b[off:off+size]...))
	}
	if len(b) > 0 {
		return nil, errors.New("certificate table: it has no end")
	}
	return nil, nil
}

func known(guid [16]byte) bool {
	for _, g := range certificateGUIDs {
		if guid == g {
			return true
		}
	}
	return false
}

// Interface guard.
var _ tee.Attester = Attester{}
