package wasm

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/internal/tinywasm"
)

//go:embed testdata/files.wasm
var filesGuest []byte

// ran runs a command and returns what it printed.
func ran(t *testing.T, c Command) (stdout, stderr string, status int, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if c.MemoryMiB == 0 {
		c.MemoryMiB = testMiB
	}
	status, err = RunCommand(t.Context(), nil, c)
	return out.String(), errs.String(), status, err
}

func TestCommand(t *testing.T) {
	stdout, stderr, status, err := ran(t, Command{
		Module: filesGuest, Args: []string{"me", "argc", "env", "stdin", "clock", "stderr", "to stderr", "exit", "7"},
		Env: []string{"A=1", "B=x=y", "C="},
	})
	want := "argc 9 me\nenv A=1;B=x=y;C=;\nstdin empty\nclock now\nstderr \nexit \n"
	if stdout != want || stderr != "to stderr\n" || status != 7 || err != nil {
		t.Errorf("status %d, %v, printed %q and %q, want status 7 and %q", status, err, stdout, stderr, want)
	}
}

func TestCommandSeesNothingElse(t *testing.T) {
	t.Setenv("HOST_SECRET", "x")
	stdout, _, status, err := ran(t, Command{Module: filesGuest, Args: []string{"me", "env", "read", "/etc/passwd", "list", "/", "read", "etc/passwd", "read", "/proc/self/environ"}})
	if err != nil || status != 0 || strings.Contains(stdout, "root:") || strings.Contains(stdout, "HOST_SECRET") || strings.Count(stdout, "written") > 0 {
		t.Errorf("status %d, %v, printed %q", status, err, stdout)
	}
	if !strings.HasPrefix(stdout, "env \n") {
		t.Errorf("printed %q, want an empty environment", stdout)
	}
}

func TestCommandWithoutWriters(t *testing.T) {
	status, err := RunCommand(t.Context(), nil, Command{Module: tinywasm.Print("x"), MemoryMiB: 1})
	if status != 0 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestExitStatuses(t *testing.T) {
	for name, c := range map[string]struct {
		module []byte
		status int
		trap   string
	}{
		"ends":     {tinywasm.Print("x"), 0, ""},
		"exit 0":   {tinywasm.Exit(0), 0, ""},
		"exit 63":  {tinywasm.Exit(63), 63, ""},
		"traps":    {tinywasm.Trap(), ExitTrap, "unreachable"},
		"too much": {tinywasm.Hungry(), ExitTrap, "unreachable"},
		"too deep": {guest{functions: []signature{{name: startFunction, code: code([]byte{opCall, 0}, i32Const(1), []byte{opDrop})}}}.bytes(), ExitTrap, "stack overflow"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, status, err := ran(t, Command{Module: c.module, MemoryMiB: 1})
			if status != c.status || (err != nil) != (c.trap != "") {
				t.Errorf("status %d, %v, want %d", status, err, c.status)
			}
			if c.trap != "" {
				wantTrap(t, err, c.trap)
			}
		})
	}
}

func TestCommandsThatDoNotStart(t *testing.T) {
	dir := t.TempDir()
	word := signature{name: startFunction, params: []byte{typeI32}}
	importing := func(kind ...byte) []byte {
		g := guest{functions: []signature{{name: startFunction}}}
		g.extra = map[byte][]byte{2: code([]byte{1}, text("env"), text("x"), kind)}
		return g.bytes()
	}
	for name, c := range map[string]struct {
		command Command
		reason  string
	}{
		"no module":               {Command{}, "not a WebAssembly module"},
		"a reactor":               {Command{Module: reactor(nil, nil, nil).bytes()}, `exports no "_start"`},
		"_start with a parameter": {Command{Module: guest{functions: []signature{word}}.bytes()}, "has parameters"},
		"an unknown import":       {Command{Module: importing(0, 0)}, "env.x"},
		"an imported global":      {Command{Module: importing(3, typeI32, 0)}, "which is no function"},
		"an imported table":       {Command{Module: importing(1, 0x70, 0, 1)}, "which is no function"},
		"no memory limit":         {Command{Module: tinywasm.Print("x"), MemoryMiB: 5000}, "memory limit"},
		"more memory than it may": {Command{Module: tinywasm.Large(17), MemoryMiB: 1}, "over its limit"},
		"an entry without value":  {Command{Module: tinywasm.Print("x"), Env: []string{"NAME"}}, "want NAME=value"},
		"an entry without name":   {Command{Module: tinywasm.Print("x"), Env: []string{"=x"}}, "want NAME=value"},
		"a missing directory":     {Command{Module: tinywasm.Print("x"), Dirs: map[string]string{"/in": filepath.Join(dir, "none")}}, "no such file"},
		"a relative directory":    {Command{Module: tinywasm.Print("x"), Dirs: map[string]string{"/in": "in"}}, "absolute"},
		"a relative mount":        {Command{Module: tinywasm.Print("x"), Dirs: map[string]string{"in": dir}}, "absolute"},
		"a mount with dots":       {Command{Module: tinywasm.Print("x"), Dirs: map[string]string{"/in/..": dir}}, "clean"},
		"read-only without a dir": {Command{Module: tinywasm.Print("x"), Dirs: map[string]string{"/in": dir}, ReadOnly: []string{"/inn"}}, "not among"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, _, status, err := ran(t, c.command)
			if status != ExitRefused || err == nil || !strings.Contains(err.Error(), c.reason) || stdout != "" {
				t.Errorf("status %d, %v, printed %q, want status %d and %q", status, err, stdout, ExitRefused, c.reason)
			}
			if _, ok := errors.AsType[*TrapError](err); ok {
				t.Error("a module that did not start is reported as one that trapped")
			}
		})
	}
}

// TestEndlessIsLeftToTheProcess: cancelling the context does not stop a module
// (the package comment says why); that it ends is the agent's business. Here only
// that a cancelled context does not keep one from running.
func TestEndlessIsLeftToTheProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	status, err := RunCommand(ctx, nil, Command{Module: tinywasm.Exit(5), MemoryMiB: 1})
	if status != 5 || err != nil {
		t.Errorf("status %d, %v, want 5", status, err)
	}
}
