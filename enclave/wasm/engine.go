package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/cloister-cc/cloister/enclave"
)

// MaxModule is the largest module in bytes.
const MaxModule = 64 << 20

// maxMemoryMiB is all that 32-bit pointers reach.
const maxMemoryMiB = 4096

const pagesPerMiB = 16

// engine is a compiled module in a runtime of its own, with the host functions
// that it imports.
type engine struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	host     *host
	reserve  func(limit uint64) []byte // as linear's
}

// newEngine checks and compiles a module. Close the engine.
func newEngine(ctx context.Context, e *enclave.Enclave, module []byte, memoryMiB uint32, stderr io.Writer) (_ *engine, err error) {
	if memoryMiB < 1 || memoryMiB > maxMemoryMiB {
		return nil, fmt.Errorf("memory limit of %d MiB: want 1 to %d", memoryMiB, maxMemoryMiB)
	}
	if module, err = inspect(module, memoryMiB); err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfig().
		WithMemoryLimitPages(memoryMiB * pagesPerMiB).
		WithCloseOnContextDone(false). // it would slow guests 2 to 30 times
		// A hostile module's debug information makes the engine's reader of it
		// panic or never end, so only a debug launch has source lines.
		WithDebugInfoEnabled(e != nil && e.Self().Debug)
	g := &engine{runtime: wazero.NewRuntimeWithConfig(ctx, config), host: newHost(e, stderr), reserve: reserve}
	defer func() {
		if err != nil {
			_ = g.close(ctx)
		}
	}()
	host, err := hostModules(ctx, g.runtime, g.host)
	if err != nil {
		return nil, err
	}
	if g.compiled, err = g.runtime.CompileModule(ctx, module); err != nil {
		return nil, fmt.Errorf("the module is malformed: %w", err)
	}
	return g, checkImports(g.compiled, host)
}

// instantiate makes an instance of the module, and runs the functions in config
// that start it.
func (g *engine) instantiate(ctx context.Context, config wazero.ModuleConfig) (api.Module, *linear, error) {
	memory := &linear{reserve: g.reserve}
	m, err := g.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, memory), g.compiled, config)
	return m, memory, err
}

func (g *engine) close(ctx context.Context) error { return g.runtime.Close(ctx) }

// hostModules instantiates what modules may import and returns it by name.
func hostModules(ctx context.Context, r wazero.Runtime, h *host) (map[string]api.Module, error) {
	if _, err := wasi_snapshot_preview1.NewBuilder(r).Instantiate(ctx); err != nil {
		return nil, fmt.Errorf("prepare WASI: %w", err)
	}
	wasi := r.Module(wasi_snapshot_preview1.ModuleName)
	own, err := h.instantiate(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("prepare host functions: %w", err)
	}
	return map[string]api.Module{wasi.Name(): wasi, own.Name(): own}, nil
}

// checkImports lists everything that a module wants and nobody offers.
func checkImports(c wazero.CompiledModule, host map[string]api.Module) error {
	var bad []string
	for _, f := range c.ImportedFunctions() {
		module, name, _ := f.Import()
		full := printable([]byte(module + "." + name))
		m, ok := host[module]
		if !ok {
			bad = append(bad, full)
			continue
		}
		offered, ok := m.ExportedFunctionDefinitions()[name]
		if !ok {
			bad = append(bad, full)
		} else if !slices.Equal(offered.ParamTypes(), f.ParamTypes()) || !slices.Equal(offered.ResultTypes(), f.ResultTypes()) {
			bad = append(bad, full+" with other parameters or results")
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	const most = 8
	if rest := len(bad) - most; rest > 0 {
		bad = append(bad[:most], fmt.Sprintf("and %d more", rest))
	}
	return errors.New("the module imports what this runtime does not offer: " + strings.Join(bad, ", "))
}
