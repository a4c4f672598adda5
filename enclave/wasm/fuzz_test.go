//go:build linux

package wasm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/internal/tinywasm"
)

// FuzzLoad: no bytes crash the runtime, neither when they are loaded nor, as far
// as that is sure to end, when they are called.
func FuzzLoad(f *testing.F) {
	tables := reactor(nil, nil, nil)
	tables.extra = map[byte][]byte{4: {1, 0x70, 0, 1}}
	initialized := reactor(nil, nil, answer(64, 4), signature{name: initializeFunction, code: i32ConstDrop(1)})
	for _, module := range [][]byte{
		xorGuest, reactor(nil, nil, nil).bytes(), tables.bytes(), initialized.bytes(), callerGuest(), tinywasm.Print("x"), tinywasm.Trap(),
		reactor(i32Const(0xffffffff), nil, answer(0xffffffff, 0xffffffff)).bytes(), []byte("\x00asm\x0d\x00\x01\x00"),
	} {
		f.Add(module)
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		ctx := t.Context()
		if bounded, err := inspect(module, 1); err == nil {
			again, err := inspect(bounded, 1)
			if err != nil || !bytes.Equal(again, bounded) {
				t.Fatalf("a module that was inspected is not accepted as it is: %v", err)
			}
		}
		g, err := newEngine(ctx, nil, module, 1, nil)
		if err != nil {
			return
		}
		if err := checkReactor(g.compiled.ExportedFunctions()); err != nil || mayNotEnd(module) {
			_ = g.close(ctx)
			return
		}
		if err := g.close(ctx); err != nil {
			t.Fatal(err)
		}
		m, err := Load(ctx, nil, module, Options{MemoryMiB: 1})
		if err != nil {
			return
		}
		for method := range uint32(3) {
			b, err := m.Call(ctx, method, []byte("input of some length"))
			if err != nil && b != nil {
				t.Fatal("an answer beside an error")
			}
			if _, err := m.CallInto(ctx, method, nil, make([]byte, 8)); err == nil && m.broken != nil {
				t.Fatal("a broken module answers")
			}
		}
		if err := m.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// mayNotEnd says whether a module may have a loop: then it is not run, since only
// the death of the process would end it.
func mayNotEnd(module []byte) bool {
	for rest := module[8:]; len(rest) > 0; {
		id := rest[0]
		size, body, err := leb(rest[1:])
		if err != nil || size > uint64(len(body)) {
			return true
		}
		if id == 10 && bytes.IndexByte(body[:size], opLoop) >= 0 {
			return true
		}
		rest = body[size:]
	}
	return false
}

func i32ConstDrop(n uint32) []byte { return append(i32Const(n), opDrop) }

// FuzzHostCalls: whatever a module passes, the runtime lives, and writes nowhere
// but to the places that were named as outputs.
func FuzzHostCalls(f *testing.F) {
	functions := (&host{}).functions()
	e := enclavetest.New(f, enclavetest.Program{Secrets: map[string][]byte{"": {1}, "\x55\x55\x55": []byte("secret")}})
	c := newCaller(f, e, Options{})
	size := len(c.memory.b)
	for i, fn := range functions {
		var params []byte
		for _, p := range example(fn.name) {
			params = binary.LittleEndian.AppendUint64(params, p)
		}
		f.Add(byte(i), params)
		f.Add(byte(i), slices.Repeat([]byte{0xff}, 8*len(fn.params)))
		f.Add(byte(i), make([]byte, 8*len(fn.params)))
	}
	f.Fuzz(func(t *testing.T, which byte, params []byte) {
		fn := functions[int(which)%len(functions)]
		p := make([]uint64, len(fn.params))
		for i := range p {
			if len(params) >= 8 {
				p[i], params = binary.LittleEndian.Uint64(params), params[8:]
			}
		}
		c.put(t, 0, bytes.Repeat([]byte{0x55}, size))
		status := c.do(t, fn.name, p...)
		if status > call.Argument {
			t.Fatalf("%s: status %d", fn.name, status)
		}
		may := outputsOf(fn.name, p, status)
		may = append(may, span{900, 4}, span{1024, uint64(8 * len(p))}) // of the guest itself
		for at, b := range c.get(t, 0, uint32(size)) {
			if b != 0x55 && !slices.ContainsFunc(may, func(s span) bool { return uint64(at) >= s.at && uint64(at) < s.at+s.size }) {
				t.Fatalf("%s%v: status %d, but address %d was written", fn.name, p, status, at)
			}
		}
	})
}

// span is a range of the memory.
type span struct{ at, size uint64 }

// outputsOf are the ranges that a call may have written.
func outputsOf(name string, p []uint64, status call.Status) []span {
	low := func(i int) uint64 { return p[i] & (1<<32 - 1) }
	last := len(p) - 1
	switch {
	case status == call.Argument:
		return nil
	case name == "random":
		return []span{{low(0), low(1)}}
	case name == "log" || name == "counter_advance":
		return nil
	case name == "counter_read":
		return []span{{low(3), 8}, {low(4), 32}}
	case status == call.TooSmall:
		return []span{{low(last), 4}}
	case status == call.Failed:
		return nil
	default:
		return []span{{low(last), 4}, {low(last - 2), low(last - 1)}}
	}
}

// FuzzTrap: what the engine says about a failed call becomes an error that can
// be printed.
func FuzzTrap(f *testing.F) {
	f.Add("wasm error: unreachable\nwasm stack trace:\n\t.f()\n\t.g(i32) i32")
	f.Add("boom (recovered by wazero)\nwasm stack trace:\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		e := trap(textError(text))
		if len(e.Stack) > maxStack {
			t.Fatalf("a stack of %d calls", len(e.Stack))
		}
		for _, line := range append(e.Stack, e.Reason) {
			if printable([]byte(line)) != line && bytes.ContainsAny([]byte(line), "\n\r\x1b\x00") {
				t.Fatalf("unprintable %q", line)
			}
		}
	})
}

type textError string

func (e textError) Error() string { return string(e) }
