//go:build linux

package wasm

import (
	"bytes"
	_ "embed"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/enclavetest"
)

//go:embed testdata/trap.wasm
var trapGuest []byte

func TestTrapNamesSourceLinesInADebugLaunch(t *testing.T) {
	for name, c := range map[string]struct {
		enclave *enclave.Enclave
		lines   bool
	}{
		"without an enclave": {nil, false},
		"in production":      {enclavetest.New(t, enclavetest.Program{}), false},
		"in a debug launch":  {enclavetest.New(t, enclavetest.Program{Debug: true}), true},
	} {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, c.enclave, trapGuest, Options{})
			_, err := m.Call(t.Context(), 0, nil)
			e := wantTrap(t, err, "unreachable")
			stack := strings.Join(e.Stack, "\n")
			if strings.Count(stack, "descend") < 5 || !strings.Contains(stack, "cl_call") {
				t.Errorf("stack\n%s\nwant the five calls of descend and cl_call", stack)
			}
			if strings.Contains(stack, "trap.c:7") != c.lines {
				t.Errorf("stack\n%s\nwant source lines: %t", stack, c.lines)
			}
		})
	}
}

func TestTrapNamesTheCalls(t *testing.T) {
	inner := signature{name: "inner", code: []byte{opUnreachable}}
	g := reactor(nil, nil, code([]byte{opCall, 3}, answer(0, 0)), inner)
	m := loaded(t, nil, g.bytes(), Options{})
	_, err := m.Call(t.Context(), 0, nil)
	e := wantTrap(t, err, "unreachable")
	if len(e.Stack) < 2 || !strings.Contains(err.Error(), "\n\tat ") {
		t.Errorf("stack %q: want both calls", e.Stack)
	}
}

// TestTrapStackIsPrintable: function names are the module's own to choose.
func TestTrapStackIsPrintable(t *testing.T) {
	evil := "f\n\tat trusted\x1b[2J"
	name := code([]byte{1}, []byte{2}, text(evil)) // of function 2, which is cl_call
	subsection := code([]byte{1}, number(uint64(len(name))), name)
	custom := code(text("name"), subsection)
	module := append(reactor(nil, nil, []byte{opUnreachable}).bytes(), code([]byte{0}, number(uint64(len(custom))), custom)...)
	m := loaded(t, nil, module, Options{})
	_, err := m.Call(t.Context(), 0, nil)
	wantTrap(t, err, "unreachable")
	if strings.Contains(err.Error(), "\x1b") || strings.Contains(err.Error(), "\nat trusted") {
		t.Errorf("the module writes into the error: %q", err)
	}
}

// TestHostileDebugInformation: whatever a module carries there, a trap is a trap.
// The engine's own reader panics on some of it.
func TestHostileDebugInformation(t *testing.T) {
	start := bytes.Index(trapGuest, []byte(".debug_"))
	if start < 0 {
		t.Fatal("the guest has no debug information")
	}
	trapped := func(module []byte) {
		m, err := Load(t.Context(), nil, module, Options{MemoryMiB: 1})
		if err != nil {
			return
		}
		_, err = m.Call(t.Context(), 0, nil)
		wantTrap(t, err, "unreachable")
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	known := bytes.Clone(trapGuest)
	known[start+674] = 0xad // in .debug_line: wazero 1.12 dereferences a nil pointer
	trapped(known)
	rapid.Check(t, func(r *rapid.T) {
		module := bytes.Clone(trapGuest)
		for range rapid.IntRange(1, 8).Draw(r, "changes") {
			module[rapid.IntRange(start, len(module)-1).Draw(r, "at")] = rapid.Byte().Draw(r, "to")
		}
		trapped(module)
	})
}
