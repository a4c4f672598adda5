package eif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Bounds of an image.
const (
	MaxSections   = 32       // of one image
	maxSignature  = 32 << 10 // bytes
	headerSize    = 548
	sectionHeader = 12
)

// ErrImage means that bytes are no enclave image, or parts cannot make one: it is
// wrapped with what is wrong.
var ErrImage = errors.New("enclave image")

// Architecture is the processor that an image is for.
type Architecture uint16

// The architectures of enclaves.
const (
	AMD64 Architecture = 0
	ARM64 Architecture = 1
)

// Image is what an enclave starts from. The parts share their memory with the bytes
// that they were read from.
type Image struct {
	Architecture Architecture
	// Kernel is a bzImage (AMD64) or Image (ARM64) of Linux.
	Kernel      []byte
	CommandLine string
	// RAMDisks are cpio archives, one at least, which together are the first file system.
	RAMDisks [][]byte
	// Metadata is JSON about the build; it is not measured.
	Metadata []byte
	// Signature is the section of that name, CBOR; nil: the image is not signed.
	Signature []byte
}

// Kinds of sections.
const (
	sectionKernel    = 1
	sectionCmdline   = 2
	sectionRAMDisk   = 3
	sectionSignature = 4
	sectionMetadata  = 5
)

// section is a part of an image.
type section struct {
	kind uint16
	data []byte
}

func (i Image) sections() []section {
	out := []section{{sectionKernel, i.Kernel}, {sectionCmdline, []byte(i.CommandLine)}, {sectionMetadata, i.Metadata}}
	for _, r := range i.RAMDisks {
		out = append(out, section{sectionRAMDisk, r})
	}
	if i.Signature != nil {
		out = append(out, section{sectionSignature, i.Signature})
	}
	return out
}

// check refuses images that no enclave starts from.
func (i Image) check() error {
	switch {
	case i.Architecture != AMD64 && i.Architecture != ARM64:
		return fmt.Errorf("%w: architecture %d: want 0 (AMD64) or 1 (ARM64)", ErrImage, i.Architecture)
	case len(i.Kernel) == 0:
		return fmt.Errorf("%w: no kernel", ErrImage)
	case len(i.RAMDisks) == 0 || slices.ContainsFunc(i.RAMDisks, func(r []byte) bool { return len(r) == 0 }):
		return fmt.Errorf("%w: no RAM disk, or an empty one", ErrImage)
	case slices.Contains([]byte(i.CommandLine), 0):
		return fmt.Errorf("%w: the command line has a zero in it", ErrImage)
	case len(i.sections()) > MaxSections:
		return fmt.Errorf("%w: %d parts, at most %d", ErrImage, len(i.sections()), MaxSections)
	case len(i.Signature) > maxSignature:
		return fmt.Errorf("%w: a signature of %d bytes, at most %d", ErrImage, len(i.Signature), maxSignature)
	}
	return nil
}

// Encode returns the image as a file of version 4. The same image gives the same
// bytes. The error is an [ErrImage].
func (i Image) Encode() ([]byte, error) {
	if err := i.check(); err != nil {
		return nil, err
	}
	be, parts := binary.BigEndian, i.sections()
	b := make([]byte, headerSize)
	copy(b, ".eif")
	be.PutUint16(b[4:], 4)
	be.PutUint16(b[6:], uint16(i.Architecture))
	be.PutUint64(b[8:], 1<<30) // memory and processors, which nobody reads
	be.PutUint64(b[16:], 2)
	be.PutUint16(b[26:], uint16(len(parts)))
	for n, s := range parts {
		be.PutUint64(b[28+8*n:], uint64(len(b)))
		be.PutUint64(b[284+8*n:], uint64(len(s.data)))
		b = be.AppendUint16(b, s.kind)
		b = be.AppendUint16(b, 0)
		b = be.AppendUint64(b, uint64(len(s.data)))
		b = append(b, s.data...)
	}
	be.PutUint32(b[headerSize-4:], checksum(b))
	return b, nil
}

// checksum is that of an image without the field that holds it.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:headerSize-4]), crc32.IEEETable, b[headerSize:])
}

// Parse reads an image of version 2 to 4, whole. The error is an [ErrImage].
func Parse(b []byte) (Image, error) {
	refuse := func(format string, a ...any) (Image, error) {
		return Image{}, fmt.Errorf("%w: %s", ErrImage, fmt.Sprintf(format, a...))
	}
	if len(b) < headerSize || string(b[:4]) != ".eif" {
		return refuse("it does not begin as one")
	}
	be := binary.BigEndian
	version, n := be.Uint16(b[4:]), int(be.Uint16(b[26:]))
	if version < 2 || version > 4 {
		return refuse("version %d: want 2 to 4", version)
	}
	if n < 2 || n > MaxSections {
		return refuse("%d parts: want 2 to %d", n, MaxSections)
	}
	if sum := be.Uint32(b[headerSize-4:]); sum != checksum(b) {
		return refuse("its checksum is of other bytes: it was altered or cut off")
	}
	i := Image{Architecture: Architecture(be.Uint16(b[6:]))}
	seen, at := map[uint16]int{}, uint64(headerSize)
	for k := range n {
		offset, size := be.Uint64(b[28+8*k:]), be.Uint64(b[284+8*k:])
		// Parts follow each other: what lies between them nobody would measure.
		if offset != at || offset+sectionHeader > uint64(len(b)) || size > uint64(len(b))-offset-sectionHeader || be.Uint64(b[offset+4:]) != size {
			return refuse("part %d is not where its header says, or not of that size", k)
		}
		at = offset + sectionHeader + size
		kind := be.Uint16(b[offset:])
		seen[kind]++
		if err := i.take(kind, b[offset+sectionHeader:at:at]); err != nil {
			return Image{}, err
		}
	}
	if at != uint64(len(b)) {
		return refuse("%d bytes behind its parts", uint64(len(b))-at)
	}
	if seen[sectionKernel] != 1 || seen[sectionCmdline] != 1 || seen[sectionSignature] > 1 || seen[sectionMetadata] > 1 || version == 4 && seen[sectionMetadata] == 0 {
		return refuse("want one kernel, one command line, one part with metadata and at most one signature")
	}
	return i, i.check()
}

// take puts a part into the image.
func (i *Image) take(kind uint16, data []byte) error {
	switch kind {
	case sectionKernel:
		i.Kernel = data
	case sectionCmdline:
		i.CommandLine = string(data)
	case sectionRAMDisk:
		if i.Kernel == nil {
			return fmt.Errorf("%w: a RAM disk stands before the kernel", ErrImage)
		}
		i.RAMDisks = append(i.RAMDisks, data)
	case sectionSignature:
		i.Signature = data
	case sectionMetadata:
		i.Metadata = data
	default:
		return fmt.Errorf("%w: a part of the unknown kind %d", ErrImage, kind)
	}
	return nil
}
