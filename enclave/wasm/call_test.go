package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// wantTrap checks that err is a trap for a reason.
func wantTrap(t *testing.T, err error, reason string) *TrapError {
	t.Helper()
	e, ok := errors.AsType[*TrapError](err)
	if !ok || !strings.Contains(e.Reason, reason) {
		t.Fatalf("got %v, want a trap: %s", err, reason)
	}
	return e
}

// wantBroken checks that a module takes no more calls.
func wantBroken(t *testing.T, m *Module) {
	t.Helper()
	if b, err := m.Call(t.Context(), 0, []byte("x")); !errors.Is(err, ErrBroken) || b != nil {
		t.Errorf("the next Call: %x, %v, want ErrBroken", b, err)
	}
	if n, err := m.CallInto(t.Context(), 0, nil, make([]byte, 8)); !errors.Is(err, ErrBroken) || n != 0 {
		t.Errorf("the next CallInto: %d, %v, want ErrBroken", n, err)
	}
}

// The methods of xor.c.
const (
	empty, xor, double, refuse, outside, tooLong, trapping, remember, hungry, none = 0, 1, 2, 3, 4, 5, 6, 7, 8, 99
)

func TestCall(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "in")
		want := make([]byte, len(in))
		for i := range in {
			want[i] = in[i] ^ 0x5a
		}
		got, err := m.Call(context.Background(), xor, in)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("in place: %x, %v, want %x", got, err, want)
		}
		got, err = m.Call(context.Background(), double, in)
		if err != nil || !bytes.Equal(got, append(bytes.Clone(in), in...)) {
			t.Fatalf("in a block of its own: %x, %v", got, err)
		}
	})
	if got, err := m.Call(t.Context(), empty, []byte("x")); err != nil || len(got) != 0 {
		t.Errorf("the empty answer: %x, %v", got, err)
	}
}

// TestAnswersAreCopies: the module cannot change what it has answered.
func TestAnswersAreCopies(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	in := []byte{1, 2, 3}
	first, err := m.Call(t.Context(), xor, in)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(first)
	if _, err := m.Call(t.Context(), xor, []byte{9, 9, 9}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, kept) || !bytes.Equal(in, []byte{1, 2, 3}) {
		t.Error("the second call changed the first one's answer, or its input")
	}
}

func TestModulesRefuse(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	for method, code := range map[uint32]uint32{refuse: 7, none: 1} {
		got, err := m.Call(t.Context(), method, []byte("in"))
		if e, ok := errors.AsType[*CallError](err); !ok || *e != (CallError{method, code}) || got != nil {
			t.Errorf("method %d: %x, %v, want error %d", method, got, err, code)
		}
		n, err := m.CallInto(t.Context(), method, nil, make([]byte, 4))
		if e, ok := errors.AsType[*CallError](err); !ok || *e != (CallError{method, code}) || n != 0 {
			t.Errorf("method %d: %d, %v, want error %d", method, n, err, code)
		}
	}
	if _, err := m.Call(t.Context(), xor, []byte("in")); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

func TestCallInto(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	out := []byte{9, 9, 9, 9}
	if n, err := m.CallInto(t.Context(), xor, []byte{0x5a, 0x5b}, out); n != 2 || err != nil || !bytes.Equal(out, []byte{0, 1, 9, 9}) {
		t.Errorf("got %d, %v, %x", n, err, out)
	}
	out = []byte{9, 9, 9}
	if n, err := m.CallInto(t.Context(), double, []byte{1, 2}, out); n != 4 || !errors.Is(err, ErrTooLong) || !bytes.Equal(out, []byte{9, 9, 9}) {
		t.Errorf("an answer that does not fit: %d, %v, %x, want 4 and nothing copied", n, err, out)
	}
	if n, err := m.CallInto(t.Context(), empty, nil, nil); n != 0 || err != nil {
		t.Errorf("the empty answer: %d, %v", n, err)
	}
	in := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() { _, _ = m.CallInto(context.Background(), xor, in, in) }); n != 0 {
		t.Errorf("%v allocations a call, want none", n)
	}
}

// TestNothingIsKept: the guest's heap forgets everything when all blocks were
// given back, so a leak would fill it.
func TestNothingIsKept(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	large := make([]byte, keepBuffer+1) // over 1/4 of the guest's heap, with its answer
	for i := range 20 {
		if _, err := m.Call(t.Context(), double, large); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		for _, method := range []uint32{empty, refuse} {
			_, _ = m.Call(t.Context(), method, large)
			if m.in.size > keepBuffer {
				t.Fatalf("after method %d, %d bytes of input buffer are kept", method, m.in.size)
			}
		}
	}
	if _, err := m.Call(t.Context(), double, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Call(t.Context(), xor, make([]byte, 9<<20)); err == nil || !strings.Contains(err.Error(), "has no 9437184 bytes") {
		t.Errorf("an input over the guest's heap: %v", err)
	}
	if _, err := m.Call(t.Context(), xor, []byte("x")); err != nil {
		t.Errorf("after an input that did not fit: %v", err)
	}
}

func TestCallsThatBreakTheModule(t *testing.T) {
	for name, c := range map[string]struct {
		method uint32
		reason string
	}{
		"a trap":                     {trapping, "the module trapped: unreachable"},
		"an answer outside":          {outside, "64 bytes at 4294967280, lies outside"},
		"an answer beyond the end":   {tooLong, "4294967295 bytes at"},
		"the whole range of lengths": {tooLong, "lies outside the module's memory"},
	} {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, nil, xorGuest, Options{})
			b, err := m.Call(t.Context(), c.method, []byte("x"))
			if err == nil || !strings.Contains(err.Error(), c.reason) || b != nil {
				t.Errorf("got %x, %v, want %q", b, err, c.reason)
			}
			wantBroken(t, m)
			clone, err := m.Clone(t.Context()) // the code is as good as before
			if err != nil {
				t.Fatal(err)
			}
			if _, err := clone.Call(t.Context(), xor, []byte("x")); err != nil {
				t.Errorf("a clone of a broken module: %v", err)
			}
			if err := clone.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHostileReactors keep the letter of the ABI and break it in the values.
func TestHostileReactors(t *testing.T) {
	endless := signature{code: code([]byte{opCall, 3}, i32Const(1), []byte{opDrop})}
	exit := func(g guest) guest {
		g.imports = []signature{{module: "wasi_snapshot_preview1", name: "proc_exit", params: words(1)}}
		return g
	}
	for name, c := range map[string]struct {
		guest  guest
		reason string
		broken bool
	}{
		"cl_alloc gives nothing":            {reactor(i32Const(0), nil, nil), "has no 64 bytes", false},
		"cl_alloc gives the end":            {reactor(i32Const(65536), nil, nil), "outside the module's memory", true},
		"cl_alloc gives too little":         {reactor(i32Const(65536-63), nil, nil), "outside the module's memory", true},
		"cl_alloc wraps around":             {reactor(i32Const(0xffffffff), nil, nil), "outside the module's memory", true},
		"cl_alloc traps":                    {reactor([]byte{opUnreachable}, nil, nil), "unreachable", true},
		"cl_free traps":                     {reactor(nil, []byte{opUnreachable}, answer(8, 4)), "unreachable", true},
		"an answer that wraps around":       {reactor(nil, nil, answer(0xffffffff, 0xffffffff)), "lies outside", true},
		"an answer one byte too long":       {reactor(nil, nil, answer(65535, 2)), "lies outside", true},
		"an empty answer outside":           {reactor(nil, nil, answer(0xffffffff, 0)), "lies outside", true},
		"deep recursion":                    {reactor(nil, nil, code([]byte{opCall, 3}, answer(0, 0)), endless), "stack overflow", true},
		"exit in a call":                    {exit(reactor(nil, nil, code(i32Const(0), []byte{opCall, 0}, answer(0, 0)))), "exit_code(0)", true},
		"division by zero, and other traps": {reactor(nil, nil, code(i32Const(1), i32Const(0), []byte{0x6d, opExtend})), "integer divide by zero", true},
		"a read outside":                    {reactor(nil, nil, code(i32Const(65536), []byte{opLoad32, 0, 0, opExtend})), "out of bounds memory access", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, nil, c.guest.bytes(), Options{MemoryMiB: 1})
			b, err := m.Call(t.Context(), 0, []byte("input"))
			if err == nil || !strings.Contains(err.Error(), c.reason) || b != nil {
				t.Errorf("got %x, %v, want %q", b, err, c.reason)
			}
			if c.broken {
				wantBroken(t, m)
			} else if _, err := m.Call(t.Context(), 0, nil); err != nil {
				t.Errorf("a call without input: %v", err)
			}
		})
	}
}

// TestAnswersAtTheEdges are allowed.
func TestAnswersAtTheEdges(t *testing.T) {
	freed := i32Const(0) // cl_free notes its last pointer at address 0
	note := code(freed, []byte{opGet, 0, opStore32, 2, 0})
	for name, c := range map[string]struct {
		answer []byte
		size   int
		freed  uint32
	}{
		"the last byte":             {answer(65535, 1), 1, 65535},
		"the last byte and nothing": {answer(65536, 0), 0, 0},
		"all but the first byte":    {answer(1, 65535), 65535, 1},
		"the whole input buffer":    {answer(1024, 64), 64, 0},
		"a part of it":              {answer(1030, 2), 2, 0},
		"overlapping its end":       {answer(1080, 64), 64, 1080},
		"overlapping its start":     {answer(1000, 64), 64, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, nil, reactor(nil, note, c.answer).bytes(), Options{MemoryMiB: 1})
			b, err := m.Call(t.Context(), 0, []byte("input"))
			if err != nil || len(b) != c.size {
				t.Fatalf("%d bytes, %v, want %d", len(b), err, c.size)
			}
			if got := binary.LittleEndian.Uint32(m.memory.b); got != c.freed {
				t.Errorf("given back: %d, want %d", got, c.freed)
			}
		})
	}
}

func TestMemoryGrowsDuringACall(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	in := []byte("still there")
	got, err := m.Call(t.Context(), hungry, in)
	if err != nil || !bytes.Equal(got, in) {
		t.Errorf("got %q, %v", got, err)
	}
	if n := len(m.memory.b); n != testMiB<<20 {
		t.Errorf("the memory bomb took %d bytes, want its limit of %d", n, testMiB<<20)
	}
}
