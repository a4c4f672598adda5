package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	wasmMagic   = "\x00asm"
	coreVersion = 1
	pageSize    = 64 << 10
)

// The sections that inspect looks into.
const (
	importSection = 2
	tableSection  = 4
	memorySection = 5
)

var errTruncated = errors.New("the module is truncated")

// inspect looks at a module's outside before anything compiles it: is it a core
// module of bearable size, does it import functions only, and does the memory
// that it starts with fit the limit. It returns the module with its tables
// bounded. What else is wrong with it the compiler tells.
func inspect(module []byte, memoryMiB uint32) ([]byte, error) {
	if len(module) > MaxModule {
		return nil, fmt.Errorf("the module is %d bytes, at most %d are run", len(module), MaxModule)
	}
	if len(module) < 8 || string(module[:4]) != wasmMagic {
		return nil, errors.New("this is not a WebAssembly module")
	}
	if v := binary.LittleEndian.Uint32(module[4:]); v != coreVersion {
		if v>>16 == 1 {
			return nil, errors.New("this is a WebAssembly component, want a core module: build for wasm32-wasip1")
		}
		return nil, fmt.Errorf("the module has version %d of the binary format, want %d", v, coreVersion)
	}
	out, rest := module[:8:8], module[8:]
	for len(rest) > 0 {
		id := rest[0]
		size, body, err := leb(rest[1:])
		if err != nil {
			return nil, err
		}
		if size > uint64(len(body)) {
			return nil, errTruncated
		}
		section := rest[:len(rest)-len(body)+int(size)]
		rest, body = body[size:], body[:size]
		switch id {
		case importSection:
			err = checkImportKinds(body)
		case tableSection:
			section, err = boundTables(body)
		case memorySection:
			err = checkMemory(body, memoryMiB)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, section...)
	}
	return out, nil
}

// checkMemory compares the size of the first memory with its limit.
func checkMemory(section []byte, memoryMiB uint32) error {
	count, rest, err := leb(section)
	if err != nil || count == 0 {
		return err
	}
	if len(rest) == 0 {
		return errTruncated
	}
	pages, _, err := leb(rest[1:]) // one byte of flags comes first
	if err != nil {
		return err
	}
	if limit := uint64(memoryMiB) * pagesPerMiB; pages > limit {
		return fmt.Errorf("the module starts with %d KiB of memory, over its limit of %d KiB (%d MiB)",
			pages*pageSize>>10, limit*pageSize>>10, memoryMiB)
	}
	return nil
}

// checkImportKinds refuses what no host module of ours exports: everything but
// functions.
func checkImportKinds(section []byte) error {
	count, rest, err := leb(section)
	for ; err == nil && count > 0; count-- {
		var module, name []byte
		if module, rest, err = vector(rest); err != nil {
			break
		}
		if name, rest, err = vector(rest); err != nil {
			break
		}
		if len(rest) == 0 {
			return errTruncated
		}
		if kind := rest[0]; kind != 0 {
			return fmt.Errorf("the module imports %s.%s, which is no function: this runtime offers only functions", printable(module), printable(name))
		}
		_, rest, err = leb(rest[1:])
	}
	return err
}

// vector reads bytes with their length before them.
func vector(b []byte) (v, rest []byte, err error) {
	n, rest, err := leb(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, errTruncated
	}
	return rest[:n], rest[n:], nil
}

// leb reads an unsigned LEB128 number of at most 32 bits.
func leb(b []byte) (uint64, []byte, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 5 || n > 1<<32-1 {
		return 0, nil, errTruncated
	}
	return n, b[size:], nil
}
