package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/internal/tinywasm"
)

// refused wants Load to refuse a module, with a reason.
func refused(t *testing.T, module []byte, reason string) {
	t.Helper()
	m, err := Load(t.Context(), nil, module, Options{MemoryMiB: 1})
	if err == nil {
		_ = m.Close(context.Background())
		t.Errorf("the module was loaded, want %q", reason)
	} else if !strings.Contains(err.Error(), reason) {
		t.Errorf("got %v, want %q", err, reason)
	}
	if err != nil && (strings.Contains(err.Error(), "\x1b") || strings.Contains(err.Error(), "x\ny")) {
		t.Errorf("the error holds what the module wrote, as it is: %q", err)
	}
}

func TestLoadRefusesWhatIsNoModule(t *testing.T) {
	for name, c := range map[string]struct {
		module []byte
		reason string
	}{
		"nothing":           {nil, "not a WebAssembly module"},
		"text":              {[]byte("#!/bin/sh\necho"), "not a WebAssembly module"},
		"a component":       {[]byte("\x00asm\x0d\x00\x01\x00"), "component, want a core module"},
		"version 2":         {[]byte("\x00asm\x02\x00\x00\x00"), "version 2"},
		"an empty module":   {[]byte("\x00asm\x01\x00\x00\x00"), `no function "cl_call"`},
		"a command":         {tinywasm.Print("x"), `no function "cl_alloc"`},
		"too large":         {make([]byte, MaxModule+1), "at most"},
		"an open section":   {[]byte("\x00asm\x01\x00\x00\x00\x01"), "truncated"},
		"a long section":    {[]byte("\x00asm\x01\x00\x00\x00\x01\x05\x00"), "truncated"},
		"an endless length": {[]byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\xff\x01"), "truncated"},
		"too much memory":   {tinywasm.Large(17), "over its limit of 1024 KiB (1 MiB)"},
		"all of memory":     {tinywasm.Large(65536), "over its limit"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.module, c.reason) })
	}
}

// TestTruncatedModules: no beginning of a module loads, and none crashes.
func TestTruncatedModules(t *testing.T) {
	for _, module := range [][]byte{xorGuest, reactor(nil, nil, nil).bytes()} {
		for n := range module {
			m, err := Load(t.Context(), nil, module[:n], Options{MemoryMiB: testMiB})
			if err == nil {
				_ = m.Close(t.Context())
				t.Fatalf("%d of %d bytes were loaded", n, len(module))
			}
		}
	}
}

func TestMemoryLimitIsChecked(t *testing.T) {
	for _, n := range []uint32{0, 4097} {
		if _, err := Load(t.Context(), nil, xorGuest, Options{MemoryMiB: n}); err == nil {
			t.Errorf("a memory limit of %d MiB is accepted", n)
		}
	}
}

func TestLoadRefusesOtherExports(t *testing.T) {
	full := reactor(nil, nil, nil)
	change := func(i int, f func(*signature)) guest {
		g := full
		g.functions = slices.Clone(full.functions)
		f(&g.functions[i])
		return g
	}
	noMemory := full
	noMemory.noMemory = true
	otherName := full
	otherName.memory = "mem"
	functionMemory := change(0, func(*signature) {})
	functionMemory.noMemory = true
	functionMemory.functions = append(functionMemory.functions, signature{name: "memory"})
	for name, c := range map[string]struct {
		guest  guest
		reason string
	}{
		"no cl_alloc":             {change(0, func(f *signature) { f.name = "alloc" }), `no function "cl_alloc"`},
		"no cl_free":              {change(1, func(f *signature) { f.name = "" }), `no function "cl_free"`},
		"no cl_call":              {change(2, func(f *signature) { f.name = "cl_call2" }), `no function "cl_call"`},
		"cl_alloc of i64":         {change(0, func(f *signature) { f.params = []byte{typeI64} }), `"cl_alloc" has other parameters`},
		"cl_free with a result":   {change(1, func(f *signature) { f.results = []byte{typeI32}; f.code = i32Const(0) }), `"cl_free" has other parameters`},
		"cl_call of two":          {change(2, func(f *signature) { f.params = f.params[:2]; f.code = i64Const(0) }), `"cl_call" has other parameters`},
		"cl_call to i32":          {change(2, func(f *signature) { f.results = []byte{typeI32}; f.code = i32Const(0) }), `"cl_call" has other parameters`},
		"_initialize with a word": {reactor(nil, nil, nil, signature{name: "_initialize", params: []byte{typeI32}}), `"_initialize" has other parameters`},
		"no memory":               {noMemory, `no memory named "memory"`},
		"memory by another name":  {otherName, `no memory named "memory"`},
		"a function named memory": {functionMemory, `no memory named "memory"`},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.guest.bytes(), c.reason) })
	}
	everything := guest{noMemory: true}
	refused(t, everything.bytes(), `"cl_alloc"`)
	refused(t, everything.bytes(), `"cl_call"`)
}

func TestLoadRefusesOtherImports(t *testing.T) {
	with := func(imports ...signature) guest { g := reactor(nil, nil, nil); g.imports = imports; return g }
	raw := func(imports []byte) guest {
		g := reactor(nil, nil, nil)
		g.extra = map[byte][]byte{2: imports}
		return g
	}
	word := []byte{typeI32}
	of := func(kind ...byte) []byte { return slices.Concat([]byte{1}, text("env"), text("x\ny"), kind) }
	for name, c := range map[string]struct {
		guest  guest
		reason string
	}{
		"another module":       {with(signature{module: "env", name: "f"}), "offer: env.f"},
		"another function":     {with(signature{module: "cloister_v1", name: "ocall"}), "offer: cloister_v1.ocall"},
		"a future version":     {with(signature{module: "cloister_v2", name: "self", params: words(3), results: word}), "cloister_v2.self"},
		"other parameters":     {with(signature{module: "cloister_v1", name: "self", params: words(2), results: word}), "cloister_v1.self with other parameters"},
		"other results":        {with(signature{module: "cloister_v1", name: "self", params: words(3)}), "cloister_v1.self with other parameters"},
		"WASI preview 0":       {with(signature{module: "wasi_unstable", name: "fd_write", params: words(4), results: word}), "wasi_unstable.fd_write"},
		"an unprintable name":  {with(signature{module: "env", name: "a\nerror: \x1b[1mfake"}), `env.a\nerror: \x1b[1mfake`},
		"all that is missing":  {with(signature{module: "env", name: "b"}, signature{module: "env", name: "a"}), "env.a, env.b"},
		"a table":              {raw(of(1, 0x70, 0, 1)), `env.x\ny, which is no function`},
		"a memory":             {raw(of(2, 0, 1)), `env.x\ny, which is no function`},
		"a global":             {raw(of(3, typeI32, 0)), `env.x\ny, which is no function`},
		"a kind of the future": {raw(of(4, 0, 0)), "which is no function"},
		"a truncated import":   {raw([]byte{1, 3, 'e'}), "truncated"},
		"more than there are":  {raw([]byte{9}), "truncated"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.guest.bytes(), c.reason) })
	}
	var many []signature
	for i := range 20 {
		many = append(many, signature{module: "env", name: string(rune('a' + i))})
	}
	refused(t, with(many...).bytes(), "env.h, and 12 more")
}

func TestInitialize(t *testing.T) {
	// _initialize writes 7 to address 64; the answer lies there.
	store := code(i32Const(64), i32Const(7), []byte{opStore32, 2, 0})
	g := reactor(nil, nil, answer(64, 4), signature{name: "_initialize", code: store})
	m := loaded(t, nil, g.bytes(), Options{})
	got, err := m.Call(t.Context(), 0, nil)
	if err != nil || !bytes.Equal(got, []byte{7, 0, 0, 0}) {
		t.Errorf("got %x, %v: _initialize did not run before the call", got, err)
	}

	exit := signature{module: "wasi_snapshot_preview1", name: "proc_exit", params: words(1)}
	trapping := reactor(nil, nil, nil, signature{name: "_initialize", code: []byte{opUnreachable}})
	refused(t, trapping.bytes(), "initialize module: the module trapped: unreachable")
	for status, reason := range map[uint32]string{0: "ended itself", 3: "exit_code(3)"} {
		exiting := reactor(nil, nil, nil, signature{name: "_initialize", code: code(i32Const(status), []byte{opCall, 0})})
		exiting.imports = []signature{exit}
		refused(t, exiting.bytes(), reason)
	}
	starting := reactor(nil, nil, nil, signature{code: []byte{opUnreachable}})
	starting.start = 3
	refused(t, starting.bytes(), "unreachable") // the start section's function counts as _initialize
}

// TestTablesAreBounded: a table is memory of the runtime, 8 bytes an entry.
func TestTablesAreBounded(t *testing.T) {
	// table.grow by n entries until it fails; the answer is an error with the
	// number of times.
	grow := func(n uint32) []byte {
		return code(
			[]byte{opLoop, blockVoid},
			[]byte{0xd0, 0x70}, i32Const(n), []byte{0xfc, 0x0f, 0}, i32Const(0xffffffff), []byte{opEq},
			[]byte{opIf, blockVoid}, i32Const(0), []byte{opLoad32, 2, 0, opExtend, opReturn, opEnd},
			i32Const(0), i32Const(0), []byte{opLoad32, 2, 0}, i32Const(1), []byte{opAdd, opStore32, 2, 0},
			[]byte{opBr, 0, opEnd}, i64Const(0))
	}
	for name, c := range map[string]struct {
		tables []byte
		most   uint32 // times that 2^18 entries fit
	}{
		"no limit":    {[]byte{1, 0x70, 0, 1}, 4},
		"a far limit": {slices.Concat([]byte{1, 0x70, 1, 1}, number(1<<32-1)), 4},
		"a limit":     {slices.Concat([]byte{1, 0x70, 1, 1}, number(1<<19)), 1},
		"two tables":  {[]byte{2, 0x70, 0, 1, 0x70, 0, 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			g := reactor(nil, nil, grow(1<<18))
			g.extra = map[byte][]byte{4: c.tables}
			m := loaded(t, nil, g.bytes(), Options{})
			_, err := m.Call(t.Context(), 0, nil)
			e, ok := errors.AsType[*CallError](err)
			if !ok || e.Code != c.most {
				t.Errorf("got %v, want the table grown %d times", err, c.most)
			}
		})
	}
	for name, c := range map[string]struct {
		tables []byte
		reason string
	}{
		"too large":        {slices.Concat([]byte{1, 0x70, 0}, number(maxEntries+1)), "table entries"},
		"too many":         {slices.Concat([]byte{2, 0x70, 0}, number(maxEntries), []byte{0x70, 0, 1}), "table entries"},
		"over its limit":   {[]byte{1, 0x70, 1, 2, 1}, "malformed"},
		"other flags":      {[]byte{1, 0x70, 4, 1}, "malformed"},
		"truncated":        {[]byte{1, 0x70}, "truncated"},
		"fewer than said":  {[]byte{200, 1, 0x70, 0, 1}, "truncated"},
		"something behind": {[]byte{1, 0x70, 0, 1, 9}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			g := reactor(nil, nil, nil)
			g.extra = map[byte][]byte{4: c.tables}
			refused(t, g.bytes(), c.reason)
		})
	}
}

// TestDeclaredMaximum: a module may declare more memory than it gets.
func TestDeclaredMaximum(t *testing.T) {
	g := reactor(nil, nil, code([]byte{opConst, 0x7f, opDrop}, i32Const(15), []byte{opGrow, 0, opExtend}))
	g.maximum = 65536
	m := loaded(t, nil, g.bytes(), Options{MemoryMiB: 1})
	_, err := m.Call(t.Context(), 0, nil)
	if e, ok := errors.AsType[*CallError](err); !ok || e.Code != 1 {
		t.Errorf("growing to the limit: %v, want the old size of 1 page", err)
	}
	_, err = m.Call(t.Context(), 0, nil)
	if e, ok := errors.AsType[*CallError](err); !ok || e.Code != 0xffffffff {
		t.Errorf("growing beyond: %v, want -1", err)
	}
}

// TestMemoryOnTheHeap moves when it grows; nothing is lost, and the limit holds.
func TestMemoryOnTheHeap(t *testing.T) {
	ctx := t.Context()
	g, err := newEngine(ctx, nil, xorGuest, testMiB, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.reserve = func(uint64) []byte { return nil } // as on systems without reservations
	m, err := (&shared{engine: g}).instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close(ctx) }()
	in := []byte("kept while the memory grows and moves")
	got, err := m.Call(ctx, 8, in)
	if err != nil || !bytes.Equal(got, in) {
		t.Errorf("got %q, %v, want %q", got, err, in)
	}
	if n := len(m.memory.b); n != testMiB<<20 {
		t.Errorf("the memory grew to %d bytes, want its limit of %d", n, testMiB<<20)
	}
	if got, err := m.Call(ctx, 1, []byte{0x5a}); err != nil || !bytes.Equal(got, []byte{0}) {
		t.Errorf("the next call: %x, %v", got, err)
	}
}

func TestLEB(t *testing.T) {
	for _, n := range []uint64{0, 127, 128, 1<<32 - 1} {
		if got, rest, err := leb(append(binary.AppendUvarint(nil, n), 9)); err != nil || got != n || len(rest) != 1 {
			t.Errorf("leb of %d: %d, %v", n, got, err)
		}
	}
	if _, _, err := leb(binary.AppendUvarint(nil, 1<<32)); err == nil {
		t.Error("33 bits are read")
	}
	if _, _, err := leb([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0}); err == nil {
		t.Error("a number of six bytes is read")
	}
}
