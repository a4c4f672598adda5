package wasm

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	_ "embed"

	"github.com/cloister-cc/cloister/enclave"
)

// Instructions and types of the binary format (WebAssembly core specification,
// chapter 5), as far as the guests of these tests need them.
const (
	opUnreachable = 0x00
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opBr          = 0x0c
	opReturn      = 0x0f
	opCall        = 0x10
	opDrop        = 0x1a
	opGet         = 0x20
	opLoad32      = 0x28
	opLoad64      = 0x29
	opStore32     = 0x36
	opGrow        = 0x40
	opConst       = 0x41
	opConst64     = 0x42
	opEq          = 0x46
	opAdd         = 0x6a
	opOr64        = 0x84
	opShl64       = 0x86
	opExtend      = 0xad // i64.extend_i32_u
	blockVoid     = 0x40
	typeI32       = 0x7f
	typeI64       = 0x7e
)

// guest is a module under construction. Functions are numbered from 0, the
// imported ones first.
type guest struct {
	imports   []signature
	functions []signature
	noMemory  bool
	memory    string // name that the memory is exported by; "" is "memory"
	maximum   uint32 // pages; 0 for none
	start     int    // number of the start function; 0 for none
	extra     map[byte][]byte
}

// signature is a function: an imported one with its module, or one with code.
type signature struct {
	module, name    string
	params, results []byte
	code            []byte
}

// bytes is the module, with one page of memory that is empty.
func (g guest) bytes() []byte {
	count := func(n int, parts ...[]byte) []byte { return append(number(uint64(n)), slices.Concat(parts...)...) }
	var types, imports, functions, exports, bodies [][]byte
	for i, f := range append(slices.Clone(g.imports), g.functions...) {
		types = append(types, slices.Concat([]byte{0x60}, count(len(f.params), f.params), count(len(f.results), f.results)))
		if i < len(g.imports) {
			imports = append(imports, slices.Concat(text(f.module), text(f.name), []byte{0}, number(uint64(i))))
			continue
		}
		functions = append(functions, number(uint64(i)))
		if f.name != "" {
			exports = append(exports, slices.Concat(text(f.name), []byte{0}, number(uint64(i))))
		}
		body := slices.Concat([]byte{0}, f.code, []byte{opEnd})
		bodies = append(bodies, count(len(body), body))
	}
	sections := map[byte][]byte{
		1: count(len(types), types...), 2: count(len(imports), imports...), 3: count(len(functions), functions...),
		10: count(len(bodies), bodies...),
	}
	if !g.noMemory {
		limits := []byte{0, 1}
		if g.maximum > 0 {
			limits = append([]byte{1, 1}, number(uint64(g.maximum))...)
		}
		sections[5] = count(1, limits)
		if g.memory == "" {
			g.memory = "memory"
		}
		exports = append(exports, slices.Concat(text(g.memory), []byte{2, 0}))
	}
	sections[7] = count(len(exports), exports...)
	if g.start > 0 {
		sections[8] = number(uint64(g.start))
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	for id := byte(1); id <= 11; id++ {
		if extra, ok := g.extra[id]; ok {
			sections[id] = extra
		}
		if body, ok := sections[id]; ok {
			out = append(append(append(out, id), number(uint64(len(body)))...), body...)
		}
	}
	return out
}

func number(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func text(s string) []byte { return append(number(uint64(len(s))), s...) }

// signed is a number as a constant's operand (signed LEB128).
func signed(n int64) []byte {
	var b []byte
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func i32Const(n uint32) []byte { return append([]byte{opConst}, signed(int64(int32(n)))...) }

func i64Const(n uint64) []byte { return append([]byte{opConst64}, signed(int64(n))...) }

// answer is the code of an answer at a fixed place.
func answer(ptr, size uint32) []byte { return i64Const(uint64(ptr)<<32 | uint64(size)) }

func code(parts ...[]byte) []byte { return slices.Concat(parts...) }

// reactor is a module of ABI v1 with the given code; nil means the usual: a fixed
// input buffer at 1024, a cl_free that does nothing, and an answer that is the
// input. A missing function is left out by its name in without.
func reactor(alloc, free, call []byte, more ...signature) guest {
	if alloc == nil {
		alloc = i32Const(1024)
	}
	if call == nil { // ptr<<32 | len
		call = code([]byte{opGet, 1, opExtend}, i64Const(32), []byte{opShl64, opGet, 2, opExtend, opOr64})
	}
	return guest{functions: append([]signature{
		{name: allocFunction, params: []byte{typeI32}, results: []byte{typeI32}, code: alloc},
		{name: freeFunction, params: []byte{typeI32, typeI32}, code: free},
		{name: callFunction, params: []byte{typeI32, typeI32, typeI32}, results: []byte{typeI64}, code: call},
	}, more...)}
}

//go:embed testdata/xor.wasm
var xorGuest []byte

const testMiB = 16

// loaded loads a module that ends with the test.
func loaded(tb testing.TB, e *enclave.Enclave, module []byte, o Options) *Module {
	tb.Helper()
	if o.MemoryMiB == 0 {
		o.MemoryMiB = testMiB
	}
	m, err := Load(context.Background(), e, module, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return m
}
