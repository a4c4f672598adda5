package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"

	"github.com/cloister-cc/cloister/enclave"
)

// The exit statuses of a module that did not choose one.
const (
	// ExitTrap is that of a module that trapped, as of a process that aborted.
	ExitTrap = 134
	// ExitRefused is that of a module that could not be started.
	ExitRefused = 126
)

// Command is a WASI preview 1 command and what it may use.
type Command struct {
	Module    []byte
	Args      []string          // Args[0] is the program's own name
	Env       []string          // NAME=value
	Dirs      map[string]string // path inside the module to directory outside
	ReadOnly  []string          // keys of Dirs that the module may only read
	MemoryMiB uint32            // limit of its memory, 1 to 4096
	Stdout    io.Writer         // nil discards
	Stderr    io.Writer         // nil discards
}

// RunCommand runs a command until it ends and returns its exit status. e answers
// its cloister_v1 calls; with nil they fail. The clocks are those of the host,
// there is no standard input and no network.
//
// The error is nil when the module ended by itself, whatever its status. It is a
// [*TrapError] with [ExitTrap] when it trapped; anything that keeps a module from
// starting gives [ExitRefused]. ctx does not stop a running module: kill the
// process (see the package comment).
func RunCommand(ctx context.Context, e *enclave.Enclave, c Command) (exitCode int, err error) {
	dirs, err := mount(c.Dirs, c.ReadOnly)
	if err != nil {
		return ExitRefused, fmt.Errorf("run module: %w", err)
	}
	defer func() { err = errors.Join(err, dirs.Close()) }()
	config, err := c.config()
	if err != nil {
		return ExitRefused, fmt.Errorf("run module: %w", err)
	}
	g, err := newEngine(ctx, e, c.Module, c.MemoryMiB, c.Stderr)
	if err != nil {
		return ExitRefused, fmt.Errorf("run module: %w", err)
	}
	defer func() { err = errors.Join(err, g.close(ctx)) }()
	start, ok := g.compiled.ExportedFunctions()[startFunction]
	if !ok {
		return ExitRefused, errors.New(`run module: it exports no "_start": build it as a WASI preview 1 command`)
	}
	if len(start.ParamTypes())+len(start.ResultTypes()) != 0 {
		return ExitRefused, errors.New(`run module: its "_start" has parameters or results, want none`)
	}
	_, _, err = g.instantiate(ctx, config.WithFSConfig(dirs.config).WithStartFunctions(startFunction))
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return int(exit.ExitCode()), nil
	}
	if err != nil {
		return ExitTrap, fmt.Errorf("run module: %w", trap(err))
	}
	return 0, nil
}

const startFunction = "_start"

// config is what the module may use beside its directories.
func (c Command) config() (wazero.ModuleConfig, error) {
	m := baseConfig().WithArgs(c.Args...)
	for _, v := range c.Env {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("environment entry %q: want NAME=value", v)
		}
		m = m.WithEnv(name, value)
	}
	if c.Stdout != nil {
		m = m.WithStdout(c.Stdout)
	}
	if c.Stderr != nil {
		m = m.WithStderr(c.Stderr)
	}
	return m, nil
}

// baseConfig is what every module gets: clocks and randomness.
func baseConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader)
}
