package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
)

// host answers the cloister_v1 calls of every instance of one runtime.
type host struct {
	enclave *enclave.Enclave // nil outside an instance
	stderr  io.Writer
	// failures holds what error returns, by instance.
	failures sync.Map // of api.Module to []byte
}

func newHost(e *enclave.Enclave, stderr io.Writer) *host {
	if stderr == nil {
		stderr = io.Discard
	}
	return &host{enclave: e, stderr: stderr}
}

// function is one host function: its parameters in order, and what it does.
type function struct {
	name   string
	params []api.ValueType
	call   func(ctx context.Context, c *guestCall) call.Status
}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// functions lists all of cloister_v1.
func (h *host) functions() []function {
	return []function{
		{"self", words(3), h.self},
		{"secret", words(5), h.secret},
		{"evidence", words(5), h.evidence},
		{"seal", words(9), h.seal},
		{"unseal", words(7), h.unseal},
		{"counter_read", words(5), h.counterRead},
		{"counter_advance", []api.ValueType{i32, i32, i32, i64, i32}, h.counterAdvance},
		{"random", words(2), h.random},
		{"log", words(3), h.log},
		{"hash", words(6), h.hash},
		{"aead_seal", words(9), h.aeadSeal},
		{"aead_open", words(9), h.aeadOpen},
		{"error", words(3), h.lastError},
	}
}

// words is n 32-bit parameters.
func words(n int) []api.ValueType {
	p := make([]api.ValueType, n)
	for i := range p {
		p[i] = i32
	}
	return p
}

// instantiate offers the functions to the modules of r.
func (h *host) instantiate(ctx context.Context, r wazero.Runtime) (api.Module, error) {
	b := r.NewHostModuleBuilder(call.ABI)
	for _, f := range h.functions() {
		b = b.NewFunctionBuilder().
			WithGoModuleFunction(h.goFunction(f), f.params, []api.ValueType{i32}).
			WithName(f.name).Export(f.name)
	}
	return b.Instantiate(ctx)
}

func (h *host) goFunction(f function) api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		c := &guestCall{module: mod, memory: mod.ExportedMemory("memory"), params: stack[:len(f.params)]}
		status := call.Argument
		if c.memory != nil {
			status = f.call(ctx, c)
		}
		stack[0] = api.EncodeU32(status)
	}
}

// fail remembers why, for error, and says that there is something to ask.
func (h *host) fail(c *guestCall, err error) call.Status {
	f := failure{Code: tee.CodeUnavailable, Message: err.Error()}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		f.Code, f.Hint = e.Code, e.Hint
	}
	text, err := json.Marshal(f)
	if err != nil {
		text = []byte(`{"code":"unavailable","message":"the reason cannot be shown"}`)
	}
	h.failures.Store(c.module, text)
	return call.Failed
}

// failure is what error returns.
type failure struct {
	Code    tee.Code `json:"code"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
}

// lastError is the function error.
func (h *host) lastError(_ context.Context, c *guestCall) call.Status {
	out, ok := c.output()
	if !ok {
		return call.Argument
	}
	text, _ := h.failures.Load(c.module)
	b, _ := text.([]byte)
	return out.write(b)
}

// forget drops what is remembered of an instance that ended.
func (h *host) forget(m api.Module) { h.failures.Delete(m) }
