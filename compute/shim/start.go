package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/tap"
)

// Command is the hidden command of this binary that is a shim: shim DIR RECORD.
const Command = "shim"

// Processes starts shims as processes of this binary and reaches them on their
// sockets. It implements compute.Shims.
type Processes struct {
	// Record is where shims record what passes; empty records nothing.
	Record tap.Dir
}

// Start starts the shim of the instance in dir, in a session of its own, so
// that it outlives this process.
func (p Processes) Start(dir compute.Dir) error {
	log, err := os.OpenFile(dir.ShimLog(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/proc/self/exe", Command, string(dir), string(p.Record))
	cmd.Args[0] = "cloister"
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	go func() { _ = cmd.Wait() }() // reap it; its status is in the instance's directory
	return nil
}

// Watch implements compute.Shims; see [Watch].
func (Processes) Watch(ctx context.Context, dir compute.Dir, changed func(compute.Status)) error {
	return Watch(ctx, dir, changed)
}

// Stop implements compute.Shims; see [Stop].
func (Processes) Stop(ctx context.Context, dir compute.Dir) error { return Stop(ctx, dir) }

// Kill implements compute.Shims; see [Kill].
func (Processes) Kill(ctx context.Context, dir compute.Dir) error { return Kill(ctx, dir) }

// Main runs a shim: args are the instance's directory and where to record, or
// "". It returns the exit status.
func Main(args []string, run func(dir compute.Dir, record tap.Dir) error) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "shim: want a directory, and where to record")
		return 2
	}
	err := run(compute.Dir(args[0]), tap.Dir(args[1]))
	if err == nil || errors.Is(err, ErrRunning) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "shim:", err)
	return 1
}

var _ compute.Shims = Processes{}
