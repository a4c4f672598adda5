//go:build linux

package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/tee"
)

// caller is a guest that calls any host function with any parameters: method i
// is function i, its input the parameters as 8 bytes each, its answer the status.
type caller struct {
	*Module
	numbers map[string]uint32
	params  map[string]int
}

// callerGuest imports everything that the runtime offers.
func callerGuest() []byte {
	var g guest
	const at = 900 // where the status goes
	functions := (&host{}).functions()
	var body []byte
	for i, f := range functions {
		g.imports = append(g.imports, signature{module: call.ABI, name: f.name, params: f.params, results: words(1)})
		args := i32Const(at)
		for k, p := range f.params {
			load := byte(opLoad32)
			if p == i64 {
				load = opLoad64
			}
			args = code(args, []byte{opGet, 1, load, 0}, number(uint64(8*k)))
		}
		body = code(body, []byte{opGet, 0}, i32Const(uint32(i)), []byte{opEq, opIf, blockVoid},
			args, []byte{opCall, byte(i), opStore32, 2, 0}, answer(at, 4), []byte{opReturn, opEnd})
	}
	g.functions = reactor(nil, nil, code(body, answer(0, 99))).functions
	return g.bytes()
}

func newCaller(tb testing.TB, e *enclave.Enclave, o Options) *caller {
	tb.Helper()
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 1
	}
	c := &caller{loaded(tb, e, callerGuest(), o), map[string]uint32{}, map[string]int{}}
	for i, f := range (&host{}).functions() {
		c.numbers[f.name], c.params[f.name] = uint32(i), len(f.params)
	}
	return c
}

// do calls a function and returns its status.
func (c *caller) do(tb testing.TB, name string, params ...uint64) call.Status {
	tb.Helper()
	if len(params) != c.params[name] {
		tb.Fatalf("%s has %d parameters, not %d", name, c.params[name], len(params))
	}
	var in []byte
	for _, p := range params {
		in = binary.LittleEndian.AppendUint64(in, p)
	}
	b, err := c.Call(context.Background(), c.numbers[name], in)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return binary.LittleEndian.Uint32(b)
}

// Places in the guest's memory: inputs, an output, its length.
const (
	inAt, in2At, in3At, lenAt = 4 << 10, 20 << 10, 24 << 10, 1000
	outAt, outSize            = 32 << 10, 16 << 10
)

func (c *caller) put(tb testing.TB, at uint32, b []byte) {
	tb.Helper()
	if !c.memory.holds(at, uint32(len(b))) {
		tb.Fatalf("%d bytes at %d lie outside", len(b), at)
	}
	copy(c.memory.b[at:], b)
}

func (c *caller) get(tb testing.TB, at, n uint32) []byte {
	tb.Helper()
	if !c.memory.holds(at, n) {
		tb.Fatalf("%d bytes at %d lie outside", n, at)
	}
	return bytes.Clone(c.memory.b[at:][:n])
}

// output calls a function whose last parameters are the output, wants it to
// succeed, and returns what it wrote.
func (c *caller) output(tb testing.TB, name string, params ...uint64) []byte {
	tb.Helper()
	if s := c.do(tb, name, append(params, outAt, outSize, lenAt)...); s != call.OK {
		tb.Fatalf("%s: status %d, error %s", name, s, c.failure(tb).Message)
	}
	return c.get(tb, outAt, binary.LittleEndian.Uint32(c.get(tb, lenAt, 4)))
}

// failure is what the function error says.
func (c *caller) failure(tb testing.TB) failure {
	tb.Helper()
	var f failure
	if err := json.Unmarshal(c.output(tb, "error"), &f); err != nil {
		tb.Fatal(err)
	}
	return f
}

// fails wants a status 2 with a code.
func (c *caller) fails(tb testing.TB, code tee.Code, name string, params ...uint64) {
	tb.Helper()
	if s := c.do(tb, name, params...); s != call.Failed {
		tb.Errorf("%s: status %d, want %d", name, s, call.Failed)
		return
	}
	if f := c.failure(tb); f.Code != code || f.Message == "" {
		tb.Errorf("%s: %+v, want code %s", name, f, code)
	}
}

// example is a call of each function that succeeds, or fails for want of an
// enclave, with pointers and lengths in their places.
func example(name string) []uint64 {
	out := []uint64{outAt, outSize, lenAt}
	with := func(params ...uint64) []uint64 { return append(params, out...) }
	switch name {
	case "self", "error":
		return out
	case "secret", "evidence":
		return with(inAt, 3)
	case "seal":
		return with(call.PolicyMeasurement, 0, inAt, 16, in2At, 4)
	case "unseal":
		return with(inAt, 300, in2At, 4)
	case "counter_read":
		return []uint64{call.PolicyMeasurement, inAt, 3, outAt, outAt + 8}
	case "counter_advance":
		return []uint64{call.PolicyMeasurement, inAt, 3, 0, in2At}
	case "random":
		return []uint64{outAt, 32}
	case "log":
		return []uint64{1, inAt, 16}
	case "hash":
		return with(call.SHA256, inAt, 16)
	case "aead_seal", "aead_open":
		return with(inAt, in2At, in3At, 4, inAt, 64)
	}
	return nil
}

// pointers names, by function, which parameters are a pointer with the length
// behind it, and which point at a fixed number of bytes.
var pointers = map[string]struct {
	ranges []int
	fixed  map[int]uint64
}{
	"self":            {[]int{0}, map[int]uint64{2: 4}},
	"error":           {[]int{0}, map[int]uint64{2: 4}},
	"secret":          {[]int{0, 2}, map[int]uint64{4: 4}},
	"evidence":        {[]int{0, 2}, map[int]uint64{4: 4}},
	"seal":            {[]int{2, 4, 6}, map[int]uint64{8: 4}},
	"unseal":          {[]int{0, 2, 4}, map[int]uint64{6: 4}},
	"counter_read":    {[]int{1}, map[int]uint64{3: 8, 4: 32}},
	"counter_advance": {[]int{1}, map[int]uint64{4: 32}},
	"random":          {[]int{0}, nil},
	"log":             {[]int{1}, nil},
	"hash":            {[]int{1, 3}, map[int]uint64{5: 4}},
	"aead_seal":       {[]int{2, 4, 6}, map[int]uint64{0: 32, 1: 12, 8: 4}},
	"aead_open":       {[]int{2, 4, 6}, map[int]uint64{0: 32, 1: 12, 8: 4}},
}

// TestEveryPointerIsChecked: whichever one of them leads outside, wraps around or
// is too long, the function says so and writes nothing.
func TestEveryPointerIsChecked(t *testing.T) {
	c := newCaller(t, enclavetest.New(t, enclavetest.Program{Secrets: map[string][]byte{"abc": {1}}}), Options{})
	end := uint64(len(c.memory.b))
	for _, f := range (&host{}).functions() {
		t.Run(f.name, func(t *testing.T) {
			good, where := example(f.name), pointers[f.name]
			if good == nil || where.ranges == nil {
				t.Fatal("this test does not know the function's pointers")
			}
			bad := func(what string, change func(p []uint64)) {
				t.Helper()
				c.put(t, outAt, make([]byte, outSize))
				c.put(t, lenAt, []byte{9, 9, 9, 9})
				p := append([]uint64{}, good...)
				change(p)
				if s := c.do(t, f.name, p...); s != call.Argument {
					t.Errorf("%s: status %d, want %d", what, s, call.Argument)
				}
				if !bytes.Equal(c.get(t, lenAt, 4), []byte{9, 9, 9, 9}) || !bytes.Equal(c.get(t, outAt, outSize), make([]byte, outSize)) {
					t.Errorf("%s: something was written", what)
				}
			}
			for _, i := range where.ranges {
				bad("a pointer at the end", func(p []uint64) { p[i], p[i+1] = end, 1 })
				bad("one byte too many", func(p []uint64) { p[i] = end - p[i+1] + 1 })
				bad("a pointer that wraps around", func(p []uint64) { p[i], p[i+1] = 1<<32-1, 2 })
				bad("a length that wraps around", func(p []uint64) { p[i+1] = 1<<32 - p[i] })
				bad("the longest length", func(p []uint64) { p[i+1] = 1<<32 - 1 })
				bad("an empty range outside", func(p []uint64) { p[i], p[i+1] = end+1, 0 })
			}
			for i, n := range where.fixed {
				bad("a pointer at the end", func(p []uint64) { p[i] = end })
				bad("one byte too many", func(p []uint64) { p[i] = end - n + 1 })
				bad("a pointer that wraps around", func(p []uint64) { p[i] = 1<<32 - 1 })
			}
		})
	}
}

// TestOutputsAtTheEdges: an output may reach the very end of the memory, and one
// without room tells how much it needs.
func TestOutputsAtTheEdges(t *testing.T) {
	c := newCaller(t, enclavetest.New(t, enclavetest.Program{}), Options{})
	end := uint64(len(c.memory.b))
	whole := c.output(t, "self")
	n := uint64(len(whole))
	if s := c.do(t, "self", end-n, n, lenAt); s != call.OK || !bytes.Equal(c.get(t, uint32(end-n), uint32(n)), whole) {
		t.Errorf("at the end of the memory: status %d", s)
	}
	for _, size := range []uint64{0, 1, n - 1} {
		c.put(t, outAt, make([]byte, outSize))
		if s := c.do(t, "self", outAt, size, lenAt); s != call.TooSmall {
			t.Errorf("%d bytes of room: status %d, want %d", size, s, call.TooSmall)
		}
		if got := binary.LittleEndian.Uint32(c.get(t, lenAt, 4)); uint64(got) != n {
			t.Errorf("%d bytes of room: told that %d are needed, want %d", size, got, n)
		}
		if !bytes.Equal(c.get(t, outAt, outSize), make([]byte, outSize)) {
			t.Errorf("%d bytes of room: something was written", size)
		}
	}
	if s := c.do(t, "self", outAt, n, end-4); s != call.OK {
		t.Errorf("the length word at the end: status %d", s)
	}
}

func TestAModuleWithoutItsMemoryExported(t *testing.T) {
	g := guest{
		imports:   []signature{{module: call.ABI, name: "random", params: words(2), results: words(1)}, {module: "wasi_snapshot_preview1", name: "proc_exit", params: words(1)}},
		functions: []signature{{name: startFunction, code: code(i32Const(0), i32Const(8), []byte{opCall, 0, opCall, 1})}},
		memory:    "other",
	}
	status, err := RunCommand(t.Context(), nil, Command{Module: g.bytes(), MemoryMiB: 1})
	if err != nil || uint32(status) != call.Argument {
		t.Errorf("status %d, %v, want %d", status, err, call.Argument)
	}
}

// TestOutsideAnInstance: without an enclave, what needs one fails and says why.
func TestOutsideAnInstance(t *testing.T) {
	c := newCaller(t, nil, Options{})
	if s := c.do(t, "error", outAt, outSize, lenAt); s != call.OK || binary.LittleEndian.Uint32(c.get(t, lenAt, 4)) != 0 {
		t.Errorf("error before any failure: status %d, want an empty text", s)
	}
	for _, name := range []string{"self", "secret", "evidence", "seal", "unseal", "counter_read", "counter_advance"} {
		c.fails(t, tee.CodeUnavailable, name, example(name)...)
	}
	for _, name := range []string{"random", "log", "hash", "aead_seal"} {
		if s := c.do(t, name, example(name)...); s != call.OK {
			t.Errorf("%s: status %d", name, s)
		}
	}
}

// TestErrorsAreOfOneInstance: a clone does not see them.
func TestErrorsAreOfOneInstance(t *testing.T) {
	c := newCaller(t, nil, Options{})
	c.fails(t, tee.CodeUnavailable, "self", example("self")...)
	m, err := c.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close(t.Context()) }()
	clone := &caller{m, c.numbers, c.params}
	if b := clone.output(t, "error"); len(b) != 0 {
		t.Errorf("the clone reads %s", b)
	}
	if c.failure(t).Code != tee.CodeUnavailable {
		t.Error("the reason is gone after it was read")
	}
}
