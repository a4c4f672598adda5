package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero/api"

	"github.com/cloister-cc/cloister/enclave"
)

// Options are what a module is loaded with.
type Options struct {
	MemoryMiB uint32    // limit of its memory, 1 to 4096
	Stderr    io.Writer // where its log and its standard error go; nil discards
}

// Module is an instance of an ABI v1 reactor: a library in its own memory whose
// methods are called one at a time. Make it with [Load] or [Module.Clone]; the
// zero value is of no use. It is for one goroutine at a time: use a clone for
// each. A call from inside a call is refused with [ErrBusy].
type Module struct {
	engine   *shared
	instance api.Module
	memory   *linear
	alloc    api.Function
	free     api.Function
	call     api.Function

	// busy is true during a call.
	busy bool
	// broken is why no further call is possible.
	broken error
	// in is the buffer in the module's memory that calls pass their input in.
	in buffer
	// stack carries parameters and results; kept to save an allocation a call.
	stack [3]uint64
}

// buffer is a range of the module's memory that the module gave us.
type buffer struct{ ptr, size uint32 }

// shared is an engine that several instances use; the last one closes it.
type shared struct {
	*engine
	options Options

	mu    sync.Mutex
	users int
}

// The errors of calls. A module that is broken stays so: close it.
var (
	// ErrBusy means that a call is under way in this instance.
	ErrBusy = errors.New("a call is under way in this instance of the module")
	// ErrBroken means that an earlier call trapped or broke the rules of the
	// ABI; nothing that the module holds can be trusted any more.
	ErrBroken = errors.New("the module is broken by an earlier call")
	// ErrClosed means that the module was closed.
	ErrClosed = errors.New("the module is closed")
)

// Load checks, compiles and instantiates a reactor, and runs its _initialize. e
// answers its cloister_v1 calls; with nil they fail. Close the module.
func Load(ctx context.Context, e *enclave.Enclave, module []byte, o Options) (*Module, error) {
	g, err := newEngine(ctx, e, module, o.MemoryMiB, o.Stderr)
	if err != nil {
		return nil, fmt.Errorf("load module: %w", err)
	}
	s := &shared{engine: g, options: o}
	m, err := s.instantiate(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load module: %w", err), g.close(ctx))
	}
	return m, nil
}

// Clone makes another instance of the same code, with a memory of its own as it
// was before the first call. It costs microseconds.
// A module that is broken can be cloned, one that was closed cannot.
func (m *Module) Clone(ctx context.Context) (*Module, error) {
	if errors.Is(m.broken, ErrClosed) {
		return nil, ErrClosed
	}
	c, err := m.engine.instantiate(ctx)
	if err != nil {
		return nil, fmt.Errorf("clone module: %w", err)
	}
	return c, nil
}

// Close frees the instance. It waits for nothing: do not call it during a call.
func (m *Module) Close(ctx context.Context) error {
	if m.busy {
		return ErrBusy
	}
	if errors.Is(m.broken, ErrClosed) {
		return nil
	}
	m.broken = ErrClosed
	return errors.Join(m.instance.Close(ctx), m.engine.leave(ctx, m.instance))
}

func (s *shared) leave(ctx context.Context, instance api.Module) error {
	s.host.forget(instance)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	return s.close(ctx)
}

func (s *shared) instantiate(ctx context.Context) (*Module, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkReactor(s.compiled.ExportedFunctions()); err != nil {
		return nil, err
	}
	if len(s.compiled.ExportedMemories()) == 0 || s.compiled.ExportedMemories()["memory"] == nil {
		return nil, errors.New(`the module exports no memory named "memory"`)
	}
	config := baseConfig()
	if s.options.Stderr != nil {
		config = config.WithStderr(s.options.Stderr)
	}
	instance, memory, err := s.engine.instantiate(ctx, config.WithStartFunctions(initializeFunction))
	if err != nil {
		return nil, fmt.Errorf("initialize module: %w", trap(err))
	}
	if instance.IsClosed() { // the engine takes exit status 0 for success
		return nil, errors.New("initialize module: it ended itself in its _initialize")
	}
	s.users++
	return &Module{
		engine: s, instance: instance, memory: memory,
		alloc: instance.ExportedFunction(allocFunction), free: instance.ExportedFunction(freeFunction),
		call: instance.ExportedFunction(callFunction),
	}, nil
}

// The exports of ABI v1.
const (
	initializeFunction = "_initialize"
	allocFunction      = "cl_alloc"
	freeFunction       = "cl_free"
	callFunction       = "cl_call"
)

// checkReactor names every export that is missing or has another type.
func checkReactor(exports map[string]api.FunctionDefinition) error {
	var errs []error
	want := func(name string, optional bool, params, results []api.ValueType) {
		f, ok := exports[name]
		switch {
		case !ok && optional:
		case !ok:
			errs = append(errs, fmt.Errorf("the module exports no function %q", name))
		case !slices.Equal(f.ParamTypes(), params) || !slices.Equal(f.ResultTypes(), results):
			errs = append(errs, fmt.Errorf("the module's function %q has other parameters or results than ABI v1", name))
		}
	}
	want(initializeFunction, true, nil, nil)
	want(allocFunction, false, words(1), words(1))
	want(freeFunction, false, words(2), nil)
	want(callFunction, false, words(3), []api.ValueType{i64})
	return errors.Join(errs...)
}
