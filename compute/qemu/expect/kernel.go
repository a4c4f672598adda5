package expect

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Offsets in the header of a Linux kernel (Linux, Documentation/arch/x86/boot.rst).
const (
	headerMagic      = 0x202 // "HdrS"
	headerVersion    = 0x206
	headerLoader     = 0x210
	headerFlags      = 0x211
	headerInitrd     = 0x218
	headerInitrdSize = 0x21C
	headerHeapEnd    = 0x224
	headerCmdline    = 0x228
	headerInitrdMax  = 0x22C
	headerXFlags     = 0x236
	headerEnd        = 0x238
)

// kernelDigest is the Authenticode digest of the kernel as the firmware gets it.
func kernelDigest(g Guest) ([sha256.Size]byte, error) {
	k, err := asQEMUHandsOver(g)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return authenticode(k)
}

// asQEMUHandsOver is the kernel with what QEMU writes into its header (QEMU 7.2,
// hw/i386/x86.c, x86_load_linux): who loads it, and where its command line and RAM disk
// will be.
func asQEMUHandsOver(g Guest) ([]byte, error) {
	if len(g.Kernel) < headerEnd || string(g.Kernel[headerMagic:headerMagic+4]) != "HdrS" {
		return nil, fmt.Errorf("%w: the kernel is no bzImage of Linux", ErrGuest)
	}
	k, le := bytes.Clone(g.Kernel), binary.LittleEndian
	version := le.Uint16(k[headerVersion:])
	if version < 0x20C {
		return nil, fmt.Errorf("%w: the kernel speaks the boot protocol %#x: want 2.12 or later", ErrGuest, version)
	}
	// The disk lies as high as the kernel takes it and the machine has memory below
	// 4 GiB, under what the firmware's tables need.
	const tables, aboveFourGiB = 0x28000, 1 << 1
	highest := uint64(le.Uint32(k[headerInitrdMax:]))
	if le.Uint16(k[headerXFlags:])&aboveFourGiB != 0 {
		highest = 0xFFFFFFFF
	}
	highest = min(highest, lowMemory(g.MemoryMiB)-tables-1)
	if uint64(len(g.Initrd)) >= highest {
		return nil, fmt.Errorf("%w: the initial RAM disk does not fit into %d MiB", ErrGuest, g.MemoryMiB)
	}
	k[headerLoader] = 0xB0
	k[headerFlags] |= 0x80 // there is a heap
	le.PutUint16(k[headerHeapEnd:], 0xFE00)
	le.PutUint32(k[headerCmdline:], 0x20000)
	le.PutUint32(k[headerInitrd:], uint32((highest-uint64(len(g.Initrd)))&^4095))
	le.PutUint32(k[headerInitrdSize:], uint32(len(g.Initrd)))
	return k, nil
}

// lowMemory is how many bytes of memory a machine of the type q35 has below 4 GiB.
func lowMemory(mib int) uint64 {
	if mib >= 0xB00 { // to the window of PCI Express
		return 2 << 30
	}
	return uint64(mib) << 20
}

// authenticode is the digest of a PE image without its checksum, the entry of its
// signatures and the signatures themselves.
func authenticode(b []byte) (digest [sha256.Size]byte, err error) {
	refuse := func() ([sha256.Size]byte, error) {
		return digest, fmt.Errorf("%w: the kernel is no PE image: it was built without CONFIG_EFI_STUB", ErrGuest)
	}
	if len(b) < 0x40 {
		return refuse()
	}
	pe := uint64(binary.LittleEndian.Uint32(b[0x3C:]))
	optional := pe + 24
	if optional+2 > uint64(len(b)) || !bytes.Equal(b[pe:pe+4], []byte("PE\x00\x00")) {
		return refuse()
	}
	directories := optional + 96
	if binary.LittleEndian.Uint16(b[optional:]) == 0x20B {
		directories = optional + 112
	}
	checksum, signatures := optional+64, directories+32 // the fifth directory
	if signatures+8 > uint64(len(b)) {
		return refuse()
	}
	end := uint64(len(b))
	if size := uint64(binary.LittleEndian.Uint32(b[signatures+4:])); size > 0 {
		if end = uint64(binary.LittleEndian.Uint32(b[signatures:])); end < signatures+8 || end+size != uint64(len(b)) {
			return digest, fmt.Errorf("%w: the signatures of the kernel are not at its end", ErrGuest)
		}
	}
	h := sha256.New()
	h.Write(b[:checksum])
	h.Write(b[checksum+4 : signatures])
	h.Write(b[signatures+8 : end])
	return [sha256.Size]byte(h.Sum(nil)), nil
}
