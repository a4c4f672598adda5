package expect

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Bounds of what is read.
const (
	MaxFirmware = 16 << 20 // bytes of an image
	maxUnpacked = 64 << 20 // bytes of what is packed in it
	maxFiles    = 4096
)

// build is what is known of a build of OVMF.
type build struct {
	name string
	// platform is where the variable of its PlatformPei with what it finds out of the
	// machine (EFI_HOB_PLATFORM_INFO) has the identifier of the host bridge.
	platform int
}

// builds are the builds that are known, by the SHA-256 of their image.
func builds() map[string]build {
	return map[string]build{
		"b157d97b1f69729514feb7f201d2cbe4957f23ab77920e361fe9f822ba49ca4c": {"Debian 12, ovmf 2022.11-6+deb12u2, OVMF_CODE_4M.fd", 0xE0D8},
	}
}

// Known names the builds of OVMF that are known, by the SHA-256 of their image in hex.
func Known() map[string]string {
	out := map[string]string{}
	for digest, b := range builds() {
		out[digest] = b.name
	}
	return out
}

// CheckFirmware returns an [ErrFirmware] for an image that is not of a build that is
// known.
func CheckFirmware(image []byte) error {
	digest := sha256.Sum256(image)
	if _, ok := builds()[hex.EncodeToString(digest[:])]; !ok {
		return fmt.Errorf("%w: SHA-256 %x", ErrFirmware, digest)
	}
	return nil
}

// volumes are the PEI volume of the firmware, as it lies in a guest's memory when it is
// measured, and its DXE volume.
func volumes(g Guest) (pei, dxe []byte, err error) {
	if err := CheckFirmware(g.Firmware); err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256(g.Firmware)
	known := builds()[hex.EncodeToString(digest[:])]
	if pei, dxe, err = unpack(g.Firmware); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFirmware, err)
	}
	if err := known.findOut(pei, g); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFirmware, err)
	}
	return pei, dxe, nil
}

// platformSize is how many bytes of that variable are not zero when it is full.
const platformSize = 0x74

// findOut writes into the PEI volume what its code has found out of the machine, and
// keeps in it, when it is measured (edk2 2022.11, OvmfPkg/PlatformPei).
func (b build) findOut(pei []byte, g Guest) error {
	if b.platform+platformSize > len(pei) {
		return errors.New("its PEI volume is too short")
	}
	v := pei[b.platform : b.platform+platformSize]
	if !bytes.Equal(v, make([]byte, platformSize)) {
		return errors.New("its variables are elsewhere")
	}
	put := func(at int, value uint32) { binary.LittleEndian.PutUint32(v[at:], value) } // none is aligned
	low, cpus := uint32(lowMemory(g.MemoryMiB)), uint32(g.VCPUs)
	put(0x00, 0x29C0) // the host bridge of a q35
	v[0x0F] = 1       // 2^40 is the first address that there is not
	v[0x18] = 0x10    // 64 GiB below it are for devices
	v[0x1C] = 40      // bits of an address
	uncached := uint32(0x80000000)
	if low > uncached {
		uncached = 0xB0000000 // the window of PCI Express
	}
	put(0x1D, uncached)
	v[0x32], v[0x3A] = 0xE0, 0x20 // where devices are above 4 GiB, and how much
	put(0x40, 0xC000)             // and below: from 0xC0000000 on
	put(0x44, 0x3C00)
	put(0x47, 0x60) // ports from 0x6000 on, 0xA000 of them
	v[0x4F] = 0xA0
	put(0x5E, cpus)
	put(0x62, cpus)
	put(0x66, 64)
	// What is kept for waking up: half a mebibyte, and a stack for each processor.
	reserved := 0x80000 + 0x8000*cpus
	put(0x6A, low-reserved)
	put(0x6E, reserved)
	v[0x72], v[0x73] = 1, 1
	return nil
}

// unpack reads the two volumes that are packed in an image: in its first volume is a
// file that holds volumes, in a section packed with LZMA.
func unpack(image []byte) (pei, dxe []byte, err error) {
	if len(image) > MaxFirmware {
		return nil, nil, fmt.Errorf("%d bytes, at most %d", len(image), MaxFirmware)
	}
	body, err := packedFile(image)
	if err != nil {
		return nil, nil, err
	}
	var packed []byte
	err = sections(body, func(kind byte, data []byte) {
		if kind == sectionGUID && len(data) >= 20 && hex.EncodeToString(data[:16]) == lzmaGUID {
			if at := int(binary.LittleEndian.Uint16(data[16:])) - 4; at >= 20 && at <= len(data) { // counted with the section's header
				packed = data[at:]
			}
		}
	})
	if err != nil || packed == nil {
		return nil, nil, errors.Join(errors.New("nothing is packed in its first volume"), err)
	}
	r, err := lzma.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, nil, fmt.Errorf("unpack: %w", err)
	}
	unpacked, err := io.ReadAll(io.LimitReader(r, maxUnpacked))
	if err != nil {
		return nil, nil, fmt.Errorf("unpack: %w", err)
	}
	var found [][]byte
	err = sections(unpacked, func(kind byte, data []byte) {
		if kind == sectionVolume {
			found = append(found, data)
		}
	})
	if err != nil || len(found) != 2 {
		return nil, nil, errors.Join(fmt.Errorf("%d volumes are packed in it, want 2", len(found)), err)
	}
	return found[0], found[1], nil
}

// Kinds of sections and files (PI 1.7 volume 3, sections 2.1.5 and 3.2.5).
const (
	sectionGUID   = 0x02
	sectionVolume = 0x17
	fileVolume    = 0x0B
	lzmaGUID      = "98584eee143959429d6edc7bd79403cf" // EE4E5898-3914-4259-9D6E-DC7BD79403CF
)

// packedFile returns the file with volumes in the first volume of an image.
func packedFile(image []byte) ([]byte, error) {
	const least = 56
	if len(image) < least || string(image[40:44]) != "_FVH" {
		return nil, errors.New("it does not begin with a volume")
	}
	le := binary.LittleEndian
	at, size := uint64(le.Uint16(image[48:])), le.Uint64(image[32:])
	if size > uint64(len(image)) {
		return nil, errors.New("its first volume is cut off")
	}
	volume := image[:size]
	if more := uint64(le.Uint16(image[52:])); more > 0 { // a further header
		if more+20 > size {
			return nil, errors.New("its first volume has no header")
		}
		at = more + uint64(le.Uint32(volume[more+16:]))
	}
	const header = 24
	for range maxFiles {
		at = (at + 7) &^ 7
		if at+header > size {
			break
		}
		h := volume[at:]
		length := uint64(h[20]) | uint64(h[21])<<8 | uint64(h[22])<<16
		if length < header || at+length > size {
			break
		}
		if h[18] == fileVolume {
			return h[header:length], nil
		}
		at += length
	}
	return nil, errors.New("its first volume has no file with volumes")
}

// sections calls visit for each section of b.
func sections(b []byte, visit func(kind byte, data []byte)) error {
	for at := 0; at+4 <= len(b); {
		size, header := int(b[at])|int(b[at+1])<<8|int(b[at+2])<<16, 4
		if size == 0xFFFFFF && at+8 <= len(b) { // a large one
			size, header = int(binary.LittleEndian.Uint32(b[at+4:])), 8
		}
		if size < header || size > len(b)-at {
			return fmt.Errorf("a section of %d bytes at %#x", size, at)
		}
		visit(b[at+3], b[at+header:at+size])
		at += (size + 3) &^ 3
	}
	return nil
}
