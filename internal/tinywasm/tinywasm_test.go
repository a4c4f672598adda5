package tinywasm_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/cloister-cc/cloister/internal/tinywasm"
)

// run runs a command in the bare engine.
func run(t testing.TB, module []byte) (string, error) {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(64))
	defer func() { _ = r.Close(ctx) }()
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	var out bytes.Buffer
	_, err := r.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithStdout(&out))
	return out.String(), err
}

func TestPrint(t *testing.T) {
	for _, text := range []string{"", "hello", string(bytes.Repeat([]byte("long"), 1000))} {
		got, err := run(t, tinywasm.Print(text))
		if err != nil || got != text+"\n" {
			t.Errorf("printed %d bytes (%v), want %d", len(got), err, len(text)+1)
		}
	}
}

func TestExit(t *testing.T) {
	_, err := run(t, tinywasm.Exit(7))
	if exit, ok := errors.AsType[*sys.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Errorf("got %v, want exit status 7", err)
	}
}

func TestTrapAndHungryTrap(t *testing.T) {
	for name, module := range map[string][]byte{"trap": tinywasm.Trap(), "hungry": tinywasm.Hungry()} {
		if _, err := run(t, module); err == nil || !bytes.Contains([]byte(err.Error()), []byte("unreachable")) {
			t.Errorf("%s: got %v, want a trap", name, err)
		}
	}
}

func TestIdleSleeps(t *testing.T) {
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	defer func() { _ = r.Close(ctx) }()
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	slept := make(chan int64, 1)
	config := wazero.NewModuleConfig().WithNanosleep(func(ns int64) { slept <- ns; panic("woken by the test") })
	if _, err := r.InstantiateWithConfig(ctx, tinywasm.Idle(), config); err == nil {
		t.Fatal("it ended")
	}
	if ns := <-slept; ns != 3600e9 {
		t.Errorf("it sleeps for %d ns, want an hour", ns)
	}
}

func TestOthersAreValid(t *testing.T) {
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	defer func() { _ = r.Close(ctx) }()
	for name, module := range map[string][]byte{"endless": tinywasm.Endless(), "large": tinywasm.Large(1000)} {
		if _, err := r.CompileModule(ctx, module); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func Example() {
	fmt.Println(len(tinywasm.Print("hello")))
	// Output: 136
}
