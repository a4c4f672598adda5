package measure

import (
	"encoding/binary"
	"fmt"
)

// MaxFirmware is the largest firmware image, in bytes, that is read.
const MaxFirmware = 16 << 20

// Firmware is what an OVMF image says of itself at its end.
type Firmware struct {
	// Sections are memory that it wants to have prepared, in the order in which a
	// hypervisor does so.
	Sections []Section
	// ResetEIP is where processors but the first begin; 0: it does not say.
	ResetEIP uint32
	// KernelHashes is the address of the digests of a kernel that is booted directly;
	// 0: it has no place for them.
	KernelHashes uint32
}

// Section is memory of a guest.
type Section struct {
	Address, Size uint32 // bytes, whole pages
	Kind          SectionKind
}

// SectionKind is what is in a section (edk2, OvmfSevMetadata.asm).
type SectionKind uint32

// The kinds of sections.
const (
	SectionMemory       SectionKind = 1
	SectionSecrets      SectionKind = 2
	SectionCPUID        SectionKind = 3
	SectionSVSM         SectionKind = 4 // calling area of a service module
	SectionKernelHashes SectionKind = 0x10
)

// guid is an identifier as it lies in memory: its first three parts little endian.
type guid [16]byte

func makeGUID(a uint32, b, c uint16, d [8]byte) (g guid) {
	binary.LittleEndian.PutUint32(g[:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	copy(g[8:], d[:])
	return g
}

// The entries of OVMF's table that are read here.
func guidTable() guid {
	return makeGUID(0x96b582de, 0x1fb2, 0x45f7, [8]byte{0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d})
}

func guidKernelHashes() guid {
	return makeGUID(0x7255371f, 0x3a3b, 0x4b04, [8]byte{0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54})
}

func guidReset() guid {
	return makeGUID(0x00f771de, 0x1a7e, 0x4fcb, [8]byte{0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e})
}

func guidMetadata() guid {
	return makeGUID(0xdc886566, 0x984a, 0x4798, [8]byte{0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc})
}

const (
	entryHeader   = 2 + 16 // of the table: size with the header, identifier; behind its data
	tableEnd      = 32     // bytes before the end of the image
	metadataMagic = "ASEV"
	metadataSize  = 16 // signature, size, version, number of sections
	sectionSize   = 12
	maxSections   = 64
	maxSection    = 64 << 20 // bytes
)

// ParseFirmware reads what an OVMF image, or the end of one, says of itself. The
// error is an [ErrGuest].
func ParseFirmware(b []byte) (Firmware, error) {
	refuse := func(format string, a ...any) (Firmware, error) {
		return Firmware{}, fmt.Errorf("%w: firmware: %s", ErrGuest, fmt.Sprintf(format, a...))
	}
	if len(b) == 0 || len(b) > MaxFirmware || len(b)%pageSize != 0 {
		return refuse("%d bytes: want whole pages of %d, at most %d bytes", len(b), pageSize, MaxFirmware)
	}
	table, err := readTable(b[:len(b)-tableEnd])
	if err != nil {
		return refuse("%v", err)
	}
	var f Firmware
	if e := table[guidReset()]; len(e) >= 4 {
		f.ResetEIP = binary.LittleEndian.Uint32(e)
	}
	if e := table[guidKernelHashes()]; len(e) >= 4 {
		f.KernelHashes = binary.LittleEndian.Uint32(e)
	}
	e := table[guidMetadata()]
	if len(e) < 4 {
		return refuse("it has no metadata for SEV-SNP: it is another image than OVMF, or one from before 2022")
	}
	if f.Sections, err = readSections(b, binary.LittleEndian.Uint32(e)); err != nil {
		return refuse("%v", err)
	}
	return f, nil
}

// readTable reads the table that ends with b, entry by entry from its end.
func readTable(b []byte) (map[guid][]byte, error) {
	last, size, err := readEntry(b)
	if err != nil || last != guidTable() {
		return nil, fmt.Errorf("it has no table at its end, as OVMF has")
	}
	table, rest := map[guid][]byte{}, b[len(b)-size:len(b)-entryHeader]
	for len(rest) >= entryHeader {
		name, size, err := readEntry(rest)
		if err != nil {
			return nil, err
		}
		if _, twice := table[name]; twice {
			return nil, fmt.Errorf("its table has an entry twice")
		}
		table[name] = rest[len(rest)-size : len(rest)-entryHeader]
		rest = rest[:len(rest)-size]
	}
	return table, nil
}

// readEntry reads the header of the entry that ends with b.
func readEntry(b []byte) (name guid, size int, err error) {
	if len(b) < entryHeader {
		return guid{}, 0, fmt.Errorf("its table is cut off")
	}
	header := b[len(b)-entryHeader:]
	size = int(binary.LittleEndian.Uint16(header))
	if size < entryHeader || size > len(b) {
		return guid{}, 0, fmt.Errorf("its table has an entry of %d bytes", size)
	}
	return guid(header[2:]), size, nil
}

// readSections reads the metadata, which begins so many bytes before the end of b.
func readSections(b []byte, before uint32) ([]Section, error) {
	if before < metadataSize || uint64(before) > uint64(len(b)) {
		return nil, fmt.Errorf("its metadata lies outside")
	}
	m := b[len(b)-int(before):]
	if string(m[:4]) != metadataMagic || binary.LittleEndian.Uint32(m[8:]) != 1 {
		return nil, fmt.Errorf("its metadata is of another version")
	}
	size, n := binary.LittleEndian.Uint32(m[4:]), binary.LittleEndian.Uint32(m[12:])
	if n > maxSections || uint64(size) < metadataSize+uint64(n)*sectionSize || uint64(size) > uint64(len(m)) {
		return nil, fmt.Errorf("its metadata says %d sections in %d bytes", n, size)
	}
	sections := make([]Section, n)
	for i := range sections {
		d := m[metadataSize+i*sectionSize:]
		s := Section{Address: binary.LittleEndian.Uint32(d), Size: binary.LittleEndian.Uint32(d[4:]), Kind: SectionKind(binary.LittleEndian.Uint32(d[8:]))}
		if s.Address%pageSize != 0 || s.Size%pageSize != 0 || s.Size == 0 || s.Size > maxSection {
			return nil, fmt.Errorf("its section %d has %d bytes at %#x", i, s.Size, s.Address)
		}
		switch s.Kind {
		case SectionMemory, SectionSecrets, SectionCPUID, SectionSVSM, SectionKernelHashes:
		default:
			return nil, fmt.Errorf("its section %d is of the unknown kind %d", i, s.Kind)
		}
		sections[i] = s
	}
	return sections, nil
}
