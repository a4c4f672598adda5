package wasm

import (
	"errors"
	"strings"

	"github.com/tetratelabs/wazero/sys"
)

// TrapError says that a module did what WebAssembly forbids, such as reading
// outside its memory, dividing by zero or reaching `unreachable`.
type TrapError struct {
	Reason string
	// Stack holds the calls that led there, innermost first, with the names
	// that the module carries, in a debug launch also with source lines. At
	// most 64.
	Stack []string
}

// Error returns the reason and the stack, one call a line.
func (t *TrapError) Error() string {
	var s strings.Builder
	s.WriteString("the module trapped: " + t.Reason)
	for _, f := range t.Stack {
		s.WriteString("\n\tat " + f)
	}
	return s.String()
}

const maxStack = 64

// trap makes a TrapError of what wazero returns for a failed call.
func trap(err error) *TrapError {
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return &TrapError{Reason: exit.Error()}
	}
	reason, stack, _ := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	reason, _, _ = strings.Cut(reason, "\n") // a Go stack follows when a host function panics
	if _, after, ok := strings.Cut(reason, "wasm error: "); ok {
		reason = after // wazero names the start function before it
	}
	t := &TrapError{Reason: printable([]byte(reason))}
	for line := range strings.Lines(stack) {
		if line = strings.TrimSpace(line); line != "" && len(t.Stack) < maxStack {
			t.Stack = append(t.Stack, printable([]byte(line))) // the names are the module's own
		}
	}
	return t
}
