package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// Kernel is what is booted directly, with QEMU's kernel-hashes=on: the firmware
// compares it with digests that are in the launch digest.
type Kernel struct {
	Image, Initrd []byte // the files as they are; no initrd is an empty one
	CommandLine   string
}

// page is the page with the digests, which lie at an address in it (QEMU,
// target/i386/sev.c: a table of the command line, the initrd and the kernel).
func (k *Kernel) page(address uint32) ([]byte, error) {
	if strings.ContainsRune(k.CommandLine, 0) {
		return nil, fmt.Errorf("%w: the command line has a zero in it", ErrGuest)
	}
	const entry = 16 + 2 + sha256.Size
	const size = 16 + 2 + 3*entry
	const padded = (size + 15) &^ 15
	at := int(address % pageSize)
	if address == 0 || at+padded > pageSize {
		return nil, fmt.Errorf("%w: the firmware has no place for the digests of a kernel", ErrGuest)
	}
	b := make([]byte, at, pageSize)
	add := func(name guid, size uint16) {
		b = append(b, name[:]...)
		b = binary.LittleEndian.AppendUint16(b, size)
	}
	addDigest := func(name guid, of []byte) {
		add(name, entry)
		digest := sha256.Sum256(of)
		b = append(b, digest[:]...)
	}
	add(makeGUID(0x9438d606, 0x4f22, 0x4cc9, [8]byte{0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21}), size)
	addDigest(makeGUID(0x97d02dd8, 0xbd20, 0x4c94, [8]byte{0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a}), append([]byte(k.CommandLine), 0))
	addDigest(makeGUID(0x44baf731, 0x3a2f, 0x4bd7, [8]byte{0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d}), k.Initrd)
	addDigest(makeGUID(0x4de79437, 0xabd2, 0x427f, [8]byte{0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}), k.Image)
	return b[:pageSize], nil
}
