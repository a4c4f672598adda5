package wasm_test

import (
	"context"
	_ "embed"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/cloister-cc/cloister/enclave/wasm"
)

//go:embed testdata/xor.wasm
var xorModule []byte

func load(tb testing.TB) *wasm.Module {
	tb.Helper()
	m, err := wasm.Load(context.Background(), nil, xorModule, wasm.Options{MemoryMiB: 16})
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

// BenchmarkCall64 is one call with 64 bytes in and 64 bytes out, beside its
// limits: the bare engine's empty call, the bare engine with the same work and
// nothing checked, and the same work without a wall.
func BenchmarkCall64(b *testing.B) {
	ctx := context.Background()
	in, out := make([]byte, 64), make([]byte, 64)
	b.Run("cloister", func(b *testing.B) {
		m := load(b)
		b.ReportAllocs()
		for b.Loop() {
			if n, err := m.CallInto(ctx, 1, in, out); n != 64 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("limit/wazero-empty", func(b *testing.B) {
		r := wazero.NewRuntime(ctx)
		defer r.Close(ctx)
		m, err := r.Instantiate(ctx, xorModule)
		if err != nil {
			b.Fatal(err)
		}
		f, stack := m.ExportedFunction("cl_call"), make([]uint64, 3)
		for b.Loop() {
			stack[0], stack[1], stack[2] = 0, 0, 0
			if err := f.CallWithStack(ctx, stack); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("limit/wazero-copy-xor", func(b *testing.B) {
		r := wazero.NewRuntime(ctx)
		defer r.Close(ctx)
		m, err := r.Instantiate(ctx, xorModule)
		if err != nil {
			b.Fatal(err)
		}
		stack := []uint64{64}
		if err := m.ExportedFunction("cl_alloc").CallWithStack(ctx, stack); err != nil {
			b.Fatal(err)
		}
		ptr, memory := uint32(stack[0]), m.Memory()
		f, stack := m.ExportedFunction("cl_call"), make([]uint64, 3)
		for b.Loop() {
			memory.Write(ptr, in)
			stack[0], stack[1], stack[2] = 1, uint64(ptr), 64
			if err := f.CallWithStack(ctx, stack); err != nil {
				b.Fatal(err)
			}
			view, _ := memory.Read(ptr, 64)
			copy(out, view)
		}
	})
	b.Run("limit/go-copy-xor", func(b *testing.B) {
		inside := make([]byte, 64)
		for b.Loop() {
			copy(inside, in)
			for i := range inside {
				inside[i] ^= 0x5a
			}
			copy(out, inside)
		}
	})
}

// BenchmarkClone is a new instance of a loaded module.
func BenchmarkClone(b *testing.B) {
	ctx := context.Background()
	m := load(b)
	for b.Loop() {
		c, err := m.Clone(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
