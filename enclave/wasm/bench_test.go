package wasm_test

import (
	"context"
	_ "embed"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

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

// bare is the guest in the bare engine.
type bare struct {
	memory api.Memory
	call   api.Function
	ptr    uint32
	stack  []uint64
}

func newBare(tb testing.TB) *bare {
	tb.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	tb.Cleanup(func() { _ = r.Close(ctx) })
	m, err := r.Instantiate(ctx, xorModule)
	if err != nil {
		tb.Fatal(err)
	}
	stack := []uint64{64}
	if err := m.ExportedFunction("cl_alloc").CallWithStack(ctx, stack); err != nil {
		tb.Fatal(err)
	}
	return &bare{m.Memory(), m.ExportedFunction("cl_call"), uint32(stack[0]), make([]uint64, 3)}
}

func (b *bare) do(method uint64) error {
	b.stack[0], b.stack[1], b.stack[2] = method, uint64(b.ptr), 64
	return b.call.CallWithStack(context.Background(), b.stack)
}

// BenchmarkCall64 is one call with 64 bytes in and 64 bytes out, beside its
// limits, taken in turns in the same run: the bare engine's empty call, the bare
// engine with the same work and nothing checked, and the same work without a
// wall. The ratios compare the best turn of each, so other load on the machine
// shows less in them than in ns/op.
func BenchmarkCall64(b *testing.B) {
	ctx := context.Background()
	in, out, inside := make([]byte, 64), make([]byte, 64), make([]byte, 64)
	m, engine := load(b), newBare(b)
	contenders := []struct {
		name string
		once func() error
	}{
		{"", func() error { _, err := m.CallInto(ctx, 1, in, out); return err }},
		{"x-of-wazero-empty", func() error { return engine.do(0) }},
		{"x-of-wazero-copy", func() error {
			engine.memory.Write(engine.ptr, in)
			err := engine.do(1)
			view, _ := engine.memory.Read(engine.ptr, 64)
			copy(out, view)
			return err
		}},
		{"x-of-go-copy", func() error {
			copy(inside, in)
			for i := range inside {
				inside[i] ^= 0x5a
			}
			copy(out, inside)
			return nil
		}},
	}
	const turns, calls = 50, 2000
	best := make([]time.Duration, len(contenders))
	for range turns {
		for i, c := range contenders {
			start := time.Now()
			for range calls {
				if err := c.once(); err != nil {
					b.Fatal(err)
				}
			}
			if took := time.Since(start); best[i] == 0 || took < best[i] {
				best[i] = took
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if n, err := m.CallInto(ctx, 1, in, out); n != 64 || err != nil {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(best[0].Nanoseconds())/calls, "best-ns/op")
	for i, c := range contenders[1:] {
		b.ReportMetric(float64(best[0])/float64(best[i+1]), c.name)
	}
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
