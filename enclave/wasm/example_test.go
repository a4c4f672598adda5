package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/enclave/wasm"
	"github.com/cloister-cc/cloister/internal/tinywasm"
)

// A program runs to its end.
func Example() {
	status, err := wasm.RunCommand(context.Background(), nil, wasm.Command{
		Module: tinywasm.Print("hello from a module"), Args: []string{"hello"}, MemoryMiB: 16, Stdout: os.Stdout,
	})
	fmt.Println(status, err)
	// Output:
	// hello from a module
	// 0 <nil>
}

// A library is loaded once, called often, and cloned for each goroutine. This one
// XORs its input with 0x5a (testdata/xor.c).
func ExampleLoad() {
	ctx := context.Background()
	m, err := wasm.Load(ctx, nil, xorModule, wasm.Options{MemoryMiB: 16})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = m.Close(ctx) }()
	answer, err := m.Call(ctx, 1, []byte("2?66"))
	fmt.Printf("%s %v\n", answer, err)

	_, err = m.Call(ctx, 3, nil) // a method that refuses
	if refusal, ok := errors.AsType[*wasm.CallError](err); ok {
		fmt.Println("the module's own error:", refusal.Code)
	}
	_, err = m.Call(ctx, 6, nil) // one that traps
	if trap, ok := errors.AsType[*wasm.TrapError](err); ok {
		fmt.Println("trapped:", trap.Reason)
	}
	_, err = m.Call(ctx, 1, nil)
	fmt.Println("usable:", !errors.Is(err, wasm.ErrBroken))
	// Output:
	// hell <nil>
	// the module's own error: 7
	// trapped: unreachable
	// usable: false
}
