// Package program is the process beside the agent that becomes a user's
// program: a Wasm module in our runtime, a native executable, or one of this
// program's own roles. It is started before the instance is proven and waits in
// trusted code until the agent says go; then it locks itself into walls of its
// own and turns into the program.
//
// # What it protects against
//
// A program that attacks its agent or the host: it may use its inputs, outputs,
// state and scratch directories and the two sockets it inherits, make threads
// but no process, and nothing else.
//
// # What it does not protect against
//
// A program that misuses what it was given: its secrets, its inputs, its
// outputs.
package program

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/wasm"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Role is a program of our own that runs as an instance.
type Role func(ctx context.Context, e *enclave.Enclave) error

// exitRefused is the status of a process that could not become the program.
const exitRefused = 126

// Main waits for the agent's go-ahead, becomes the program and returns its exit
// status. roles are the built-in images.
func Main(roles map[launch.Role]Role) int {
	code, err := run(roles)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloister:", err)
	}
	return code
}

func run(roles map[launch.Role]Role) (int, error) {
	conn, err := agentSocket()
	if err != nil {
		return exitRefused, err
	}
	answer, err := call.NewClient(conn).Do(call.Request{Op: call.Await})
	_ = conn.Close()
	if err != nil {
		return exitRefused, err
	}
	s := answer.Start
	if s == nil {
		return exitRefused, errors.New("the agent sent no start message")
	}
	profile := sandbox.Profile{
		ReadDirs:  []string{filepath.Dir(s.In)},
		WriteDirs: []string{s.Out},
	}
	if s.State != "" {
		profile.WriteDirs = append(profile.WriteDirs, s.State)
	}
	if launch.ImageKind(s.Kind) == launch.ELF {
		profile.Execute = s.Image
		profile.ReadDirs = append(profile.ReadDirs, "/proc/self", "/sys/kernel/mm/transparent_hugepage")
	}
	if _, err := sandbox.LockDown(profile); err != nil {
		return exitRefused, err
	}
	switch launch.ImageKind(s.Kind) {
	case launch.Wasm:
		return runWasm(s)
	case launch.ELF:
		return exitRefused, execute(s)
	case launch.Builtin:
		return runRole(roles, launch.Role(s.Role), s)
	default:
		return exitRefused, fmt.Errorf("unknown image kind %q", s.Kind)
	}
}

// agentSocket duplicates the inherited socket, so that a native program still
// finds it at its number.
func agentSocket() (net.Conn, error) {
	fd, err := unix.FcntlInt(call.SocketFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open agent socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "agent")
	conn, err := net.FileConn(f)
	return conn, errors.Join(err, f.Close())
}

func runWasm(s *call.Start) (int, error) {
	setDirs(s)
	e, err := enclave.Open()
	if err != nil {
		return exitRefused, err
	}
	module, err := os.ReadFile(s.Image)
	if err != nil {
		return exitRefused, fmt.Errorf("read module: %w", err)
	}
	mounts := map[string]string{"/in": s.In, "/out": s.Out}
	if s.State != "" {
		mounts["/state"] = s.State
	}
	return wasm.RunCommand(context.Background(), e, wasm.Command{
		Module: module, Args: append([]string{"program"}, s.Args...), Env: s.Env, ReadOnly: []string{"/in"}, Dirs: mounts,
		MemoryMiB: s.MemoryMiB, Stdout: os.Stdout, Stderr: os.Stderr,
	})
}

// execute replaces this process by the native program. It returns only on
// failure.
func execute(s *call.Start) error {
	for _, fd := range []int{call.SocketFD, call.PortsFD} {
		if err := unix.SetNonblock(fd, false); err != nil {
			return fmt.Errorf("start program: %w", err)
		}
	}
	env := append([]string{call.EnvName + "=1"}, dirEnv(s)...)
	if err := syscall.Exec(s.Image, append([]string{"program"}, s.Args...), append(env, s.Env...)); err != nil {
		return fmt.Errorf("start program: %w: is it a static executable for this machine?", err)
	}
	return nil
}

func runRole(roles map[launch.Role]Role, role launch.Role, s *call.Start) (int, error) {
	run, ok := roles[role]
	if !ok {
		return exitRefused, fmt.Errorf("this build has no role %q", role)
	}
	setDirs(s)
	e, err := enclave.Open()
	if err != nil {
		return exitRefused, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err = run(ctx, e); err == nil {
		return 0, nil
	}
	if coded, ok := errors.AsType[*tee.Error](err); ok {
		err = errors.Join(err, e.Fail(coded.Code, err.Error(), coded.Hint))
	}
	return 1, err
}

// dirEnv tells the program where its directories are.
func dirEnv(s *call.Start) []string {
	var env []string
	for _, d := range dirs(s) {
		env = append(env, d.name+"="+d.path)
	}
	return env
}

// setDirs tells the same to code that runs in this process.
func setDirs(s *call.Start) {
	for _, d := range dirs(s) {
		_ = os.Setenv(d.name, d.path)
	}
}

type namedDir struct{ name, path string }

func dirs(s *call.Start) []namedDir {
	return []namedDir{{call.EnvInputs, s.In}, {call.EnvOutputs, s.Out}, {call.EnvState, s.State}}
}
