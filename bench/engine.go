package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/cloister-cc/cloister/enclave/wasm"
)

// wasm is one call with 64 bytes in and 64 bytes out.
func (b *bench) wasm() ([]figure, error) {
	ctx := context.Background()
	xorModule, err := os.ReadFile(filepath.Join(b.root, "enclave", "wasm", "testdata", "xor.wasm"))
	if err != nil {
		return nil, err
	}
	m, err := wasm.Load(ctx, nil, xorModule, wasm.Options{MemoryMiB: 16})
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.Close(ctx) }()
	bare, err := bareModule(ctx, xorModule)
	if err != nil {
		return nil, err
	}
	in, out := make([]byte, 64), make([]byte, 64)
	var failed error
	ours, limit := pair(func() {
		if _, err := m.CallInto(ctx, 1, in, out); err != nil {
			failed = err
		}
	}, func() { bare(in, out) })
	f := figure{Name: "Wasm call, 64 B in and out", Value: ours, Unit: "ns", Against: "the bare engine, same work, nothing checked", Limit: limit, Ratio: ours / limit, Bar: "<= 50 ns"}
	return []figure{f}, failed
}

// bareModule is the same guest in the engine alone.
func bareModule(ctx context.Context, module []byte) (func(in, out []byte), error) {
	r := wazero.NewRuntime(ctx)
	m, err := r.Instantiate(ctx, module)
	if err != nil {
		return nil, err
	}
	stack := []uint64{64}
	if err := m.ExportedFunction("cl_alloc").CallWithStack(ctx, stack); err != nil {
		return nil, err
	}
	ptr, memory, call := uint32(stack[0]), m.Memory(), m.ExportedFunction("cl_call")
	args := make([]uint64, 3)
	return func(in, out []byte) {
		memory.Write(ptr, in)
		args[0], args[1], args[2] = 1, uint64(ptr), 64
		_ = call.CallWithStack(ctx, args)
		view, _ := memory.Read(ptr, 64)
		copy(out, view)
	}, nil
}

// pair measures two things in turns, so that a change of the machine's speed
// meets both, and returns the least nanoseconds of each.
func pair(a, b func()) (nsA, nsB float64) {
	const turns = 7
	for turn := range turns {
		x, y := nanoseconds(a), nanoseconds(b)
		if turn == 0 || x < nsA {
			nsA = x
		}
		if turn == 0 || y < nsB {
			nsB = y
		}
	}
	return nsA, nsB
}

func nanoseconds(f func()) float64 {
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			f()
		}
	})
	return float64(r.T.Nanoseconds()) / float64(r.N)
}
