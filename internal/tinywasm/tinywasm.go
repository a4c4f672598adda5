// Package tinywasm makes the smallest WASI preview 1 commands that do one thing:
// print, exit, trap, never end, take all memory. The demo's control program and
// many tests are made of them; each takes a millisecond to compile.
package tinywasm

import (
	"encoding/binary"
	"slices"
)

// Instructions (WebAssembly core specification, section 5.4).
const (
	opUnreachable = 0x00
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opBr          = 0x0c
	opCall        = 0x10
	opDrop        = 0x1a
	opGrow        = 0x40
	opConst       = 0x41
	opEq          = 0x46
	noResult      = 0x40
)

// Print is a command that writes text and a line break to its standard output.
func Print(text string) []byte {
	const textAt = 16 // behind the vector and the count that fd_write wants
	line := text + "\n"
	data := binary.LittleEndian.AppendUint32(nil, textAt)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(line)))
	data = append(append(data, make([]byte, textAt-len(data))...), line...)
	// fd_write(fd 1, vectors at 0, 1 of them, count at 8)
	return command("fd_write", 4, true, data, opConst, 1, opConst, 0, opConst, 1, opConst, 8, opCall, 0, opDrop)
}

// Exit is a command that ends with a status, at most 63.
func Exit(status uint8) []byte {
	return command("proc_exit", 1, false, nil, opConst, status, opCall, 0)
}

// Trap is a command that does what WebAssembly forbids.
func Trap() []byte { return command("proc_exit", 1, false, nil, opUnreachable) }

// Endless is a command that never ends.
func Endless() []byte {
	return command("proc_exit", 1, false, nil, opLoop, noResult, opBr, 0, opEnd)
}

// Idle is a command that sleeps for ever.
func Idle() []byte {
	// A subscription to a relative clock (WASI preview 1, poll_oneoff): tag and
	// clock are 0, the time-out of an hour is at 24. The event goes behind it.
	const timeoutAt, countAt, eventAt, hour = 24, 44, 48, uint64(3600e9)
	data := make([]byte, 48)
	binary.LittleEndian.PutUint64(data[timeoutAt:], hour)
	return command("poll_oneoff", 4, true, data,
		opLoop, noResult,
		opConst, 0, opConst, eventAt, opConst, 1, opConst, countAt, opCall, 0, opDrop,
		opBr, 0, opEnd)
}

// Hungry is a command that takes memory until it gets no more, then traps.
func Hungry() []byte {
	return command("proc_exit", 1, false, nil,
		opLoop, noResult,
		opConst, 16, opGrow, 0, opConst, 0x7f, opEq, // grow by 1 MiB; -1: no more
		opIf, noResult, opUnreachable, opEnd,
		opBr, 0, opEnd)
}

// Large is a command whose memory starts at pages of 64 KiB and which does
// nothing.
func Large(pages uint32) []byte { return assemble("proc_exit", 1, false, pages, nil) }

// command is a module with one page of memory.
func command(imported string, params int, result bool, data []byte, code ...byte) []byte {
	return assemble(imported, params, result, 1, data, code...)
}

// assemble makes a module that imports one WASI function (index 0) and exports
// its memory, which begins with data, and _start.
func assemble(imported string, params int, result bool, pages uint32, data []byte, code ...byte) []byte {
	const i32, function = 0x7f, 0x60
	importType := append([]byte{function, byte(params)}, slices.Repeat([]byte{i32}, params)...)
	if result {
		importType = append(importType, 1, i32)
	} else {
		importType = append(importType, 0)
	}
	body := append(append([]byte{0}, code...), opEnd) // no locals
	sections := [][]byte{
		section(1, []byte{2}, importType, []byte{function, 0, 0}),
		section(2, []byte{1}, name("wasi_snapshot_preview1"), name(imported), []byte{0, 0}),
		section(3, []byte{1, 1}),
		section(5, []byte{1, 0}, number(uint64(pages))),
		section(7, []byte{2}, name("memory"), []byte{2, 0}, name("_start"), []byte{0, 1}),
		section(10, []byte{1}, number(uint64(len(body))), body),
	}
	if data != nil {
		sections = append(sections, section(11, []byte{1, 0, opConst, 0, opEnd}, number(uint64(len(data))), data))
	}
	return append([]byte("\x00asm\x01\x00\x00\x00"), slices.Concat(sections...)...)
}

func section(id byte, parts ...[]byte) []byte {
	b := slices.Concat(parts...)
	return append(append([]byte{id}, number(uint64(len(b)))...), b...)
}

func name(s string) []byte { return append(number(uint64(len(s))), s...) }

func number(n uint64) []byte { return binary.AppendUvarint(nil, n) }
