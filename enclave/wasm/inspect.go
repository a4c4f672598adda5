package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	wasmMagic     = "\x00asm"
	coreVersion   = 1
	memorySection = 5
	pageSize      = 64 << 10
)

var errTruncated = errors.New("the module is truncated")

// inspect looks at a module's outside before anything compiles it: is it a core
// module of bearable size, and does the memory that it starts with fit the
// limit. What else is wrong with it the compiler tells.
func inspect(module []byte, memoryMiB uint32) error {
	if len(module) > MaxModule {
		return fmt.Errorf("the module is %d bytes, at most %d are run", len(module), MaxModule)
	}
	if len(module) < 8 || string(module[:4]) != wasmMagic {
		return errors.New("this is not a WebAssembly module")
	}
	if v := binary.LittleEndian.Uint32(module[4:]); v != coreVersion {
		if v>>16 == 1 {
			return errors.New("this is a WebAssembly component, want a core module: build for wasm32-wasip1")
		}
		return fmt.Errorf("the module has version %d of the binary format, want %d", v, coreVersion)
	}
	pages, err := minimumPages(module[8:])
	if err != nil {
		return err
	}
	if limit := uint64(memoryMiB) * pagesPerMiB; pages > limit {
		return fmt.Errorf("the module starts with %d KiB of memory, over its limit of %d KiB (%d MiB)",
			pages*pageSize>>10, limit*pageSize>>10, memoryMiB)
	}
	return nil
}

// minimumPages walks the sections and returns the size of the first memory that
// the module declares, 0 without one.
func minimumPages(rest []byte) (uint64, error) {
	for len(rest) > 0 {
		id := rest[0]
		size, rest2, err := leb(rest[1:])
		if err != nil {
			return 0, err
		}
		if size > uint64(len(rest2)) {
			return 0, errTruncated
		}
		if id == memorySection {
			return memoryMinimum(rest2[:size])
		}
		rest = rest2[size:]
	}
	return 0, nil
}

func memoryMinimum(section []byte) (uint64, error) {
	count, rest, err := leb(section)
	if err != nil || count == 0 {
		return 0, err
	}
	if len(rest) == 0 {
		return 0, errTruncated
	}
	pages, _, err := leb(rest[1:]) // one byte of flags comes first
	return pages, err
}

// leb reads an unsigned LEB128 number of at most 32 bits.
func leb(b []byte) (uint64, []byte, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 5 || n > 1<<32-1 {
		return 0, nil, errTruncated
	}
	return n, b[size:], nil
}
