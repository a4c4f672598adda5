package measure

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// DigestSize is the size of a launch digest in bytes.
const DigestSize = sha512.Size384

// Digest is a launch digest.
type Digest [DigestSize]byte

// ErrGuest means that a guest cannot be launched as it is described: it is wrapped
// with what is wrong.
var ErrGuest = errors.New("guest that cannot be measured")

// MaxVCPUs bounds the virtual processors of a guest.
const MaxVCPUs = 512

// Guest is what a hypervisor is asked to launch.
type Guest struct {
	// Firmware is an OVMF image, whole.
	Firmware []byte
	// FirmwareDigest is [FirmwareDigest] of the image, where Firmware is no more than
	// its last pages, with the metadata; nil: Firmware is whole.
	FirmwareDigest *Digest
	// VCPUs is how many virtual processors there are, 1 to MaxVCPUs, and CPU which.
	// Amazon's and Google's hypervisors set none, and ignore it.
	VCPUs int
	CPU   CPU
	// Features are SEV_FEATURES of the save area: bit 0, SNP, is always set.
	Features uint64
	VMM      VMM
	// Kernel is booted directly; nil: the firmware looks for what to boot, and that is
	// in no digest.
	Kernel *Kernel
}

// Launch returns the launch digest of a guest. The error is an [ErrGuest].
func Launch(g Guest) (Digest, error) {
	if g.VCPUs < 1 || g.VCPUs > MaxVCPUs {
		return Digest{}, fmt.Errorf("%w: %d virtual processors: want 1 to %d", ErrGuest, g.VCPUs, MaxVCPUs)
	}
	if g.VMM == "" || !g.VMM.known() {
		return Digest{}, fmt.Errorf("%w: hypervisor %.32q: want %s, %s or %s", ErrGuest, g.VMM, QEMU, EC2, GCE)
	}
	if g.Features&featureSNP == 0 {
		return Digest{}, fmt.Errorf("%w: features %#x are not those of an SNP guest: want bit 0 set", ErrGuest, g.Features)
	}
	f, err := ParseFirmware(g.Firmware)
	if err != nil {
		return Digest{}, err
	}
	if g.VCPUs > 1 && f.ResetEIP == 0 {
		return Digest{}, fmt.Errorf("%w: the firmware does not say where further processors begin", ErrGuest)
	}
	var l ledger
	if g.FirmwareDigest != nil {
		l.digest = *g.FirmwareDigest
	} else {
		l.pages(fourGiB-uint64(len(g.Firmware)), g.Firmware)
	}
	if err := l.metadata(f, g); err != nil {
		return Digest{}, err
	}
	for i := range g.VCPUs {
		eip := uint32(resetEIP)
		if i > 0 {
			eip = f.ResetEIP
		}
		page := saveArea(g.VMM, eip, g.CPU, g.Features)
		l.update(pageVMSA, vmsaAddress, sha512.Sum384(page[:]))
	}
	return l.digest, nil
}

// FirmwareDigest returns the launch digest as it is after the pages of a firmware
// image, which is the first part of every guest's. The error is an [ErrGuest].
func FirmwareDigest(firmware []byte) (Digest, error) {
	if _, err := ParseFirmware(firmware); err != nil {
		return Digest{}, err
	}
	var l ledger
	l.pages(fourGiB-uint64(len(firmware)), firmware)
	return l.digest, nil
}

// Types of pages (56860, table 68).
const (
	pageNormal     = 1
	pageVMSA       = 2
	pageZero       = 3
	pageUnmeasured = 4
	pageSecrets    = 5
	pageCPUID      = 6
)

const (
	pageSize = 4096
	fourGiB  = 1 << 32 // where firmware ends
	// Save areas have no address of the guest. The firmware records them at -1, of
	// which the bits of a page's address below 2^48 are left.
	vmsaAddress = 0xFFFFFFFFF000
	featureSNP  = 1
)

// ledger is a launch digest on its way.
type ledger struct{ digest Digest }

// pages measures memory with contents, from an address on.
func (l *ledger) pages(address uint64, b []byte) {
	for at := 0; at < len(b); at += pageSize {
		l.update(pageNormal, address+uint64(at), sha512.Sum384(b[at:at+pageSize]))
	}
}

// blank measures memory whose contents are not.
func (l *ledger) blank(kind byte, address, size uint64) {
	for at := uint64(0); at < size; at += pageSize {
		l.update(kind, address+at, Digest{})
	}
}

// update measures a page: the digest becomes that of PAGE_INFO (56860, table 67).
func (l *ledger) update(kind byte, address uint64, contents Digest) {
	const size = 2*DigestSize + 16
	b := make([]byte, 0, size)
	b = append(b, l.digest[:]...)
	b = append(b, contents[:]...)
	b = binary.LittleEndian.AppendUint16(b, size)
	// Neither part of a migration image nor open to other privilege levels.
	b = append(b, kind, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, address)
	l.digest = sha512.Sum384(b)
}

// metadata measures what the firmware wants to have in memory.
func (l *ledger) metadata(f Firmware, g Guest) error {
	hashed := false
	for _, s := range f.Sections {
		switch s.Kind {
		case SectionMemory:
			kind := byte(pageZero)
			if g.VMM == GCE {
				kind = pageUnmeasured
			}
			l.blank(kind, uint64(s.Address), uint64(s.Size))
		case SectionSVSM:
			l.blank(pageZero, uint64(s.Address), uint64(s.Size))
		case SectionSecrets:
			l.update(pageSecrets, uint64(s.Address), Digest{})
		case SectionCPUID:
			if g.VMM != EC2 { // which leaves it to the end
				l.update(pageCPUID, uint64(s.Address), Digest{})
			}
		case SectionKernelHashes:
			if g.Kernel == nil {
				l.blank(pageZero, uint64(s.Address), uint64(s.Size))
				continue
			}
			page, err := g.Kernel.page(f.KernelHashes)
			if err != nil {
				return err
			}
			if s.Size != pageSize {
				return fmt.Errorf("%w: the firmware has %d bytes for the digests of a kernel: want %d", ErrGuest, s.Size, pageSize)
			}
			l.pages(uint64(s.Address), page)
			hashed = true
		}
	}
	if g.VMM == EC2 {
		for _, s := range f.Sections {
			if s.Kind == SectionCPUID {
				l.update(pageCPUID, uint64(s.Address), Digest{})
			}
		}
	}
	if g.Kernel != nil && !hashed {
		return fmt.Errorf("%w: the firmware does not measure a kernel that is booted directly: take the AmdSev build of OVMF", ErrGuest)
	}
	return nil
}
