package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/tinywasm"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// child makes this binary the process that becomes the program.
const child = "become-the-program"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child {
		os.Exit(Main(roles))
	}
	goleak.VerifyTestMain(m)
}

// roles are the built-in images of this test; each reports by how it ends.
var roles = map[launch.Role]Role{
	"good": func(_ context.Context, e *enclave.Enclave) error {
		fmt.Println(os.Getenv(call.EnvInputs), os.Getenv(call.EnvOutputs), e.StateDir(), e.Self().InstanceID)
		return nil
	},
	"bad": func(context.Context, *enclave.Enclave) error { return errors.New("a plain reason") },
	"coded": func(context.Context, *enclave.Enclave) error {
		return &tee.Error{Code: "disk", Op: "keep state", Hint: "make room"}
	},
	"prisoner": func(_ context.Context, e *enclave.Enclave) error {
		in, out := os.Getenv(call.EnvInputs), os.Getenv(call.EnvOutputs)
		_, readErr := os.ReadFile(filepath.Join(in, "data"))
		allowed := errors.Join(readErr, os.WriteFile(filepath.Join(out, "result"), []byte("x"), 0o600), os.WriteFile(filepath.Join(e.StateDir(), "s"), []byte("x"), 0o600))
		if allowed != nil {
			return allowed
		}
		if _, err := os.ReadFile("/etc/passwd"); err == nil {
			return errors.New("it reads the host's files")
		}
		if err := os.WriteFile(filepath.Join(in, "data"), []byte("x"), 0o600); err == nil {
			return errors.New("it writes to its inputs")
		}
		if err := exec.Command("/proc/self/exe", "x").Start(); err == nil {
			return errors.New("it starts processes")
		}
		if _, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
			return errors.New("it opens sockets")
		}
		return nil
	},
}

// result is how a program process ended.
type result struct {
	code           int
	stdout, stderr string
	failed         *call.Request // the reason that it gave its agent
}

// become starts a program process and plays its agent; answer is what it says to
// the question what to be.
func become(t *testing.T, answer call.Answer) result {
	t.Helper()
	calls, callsTheirs := pair(t, unix.SOCK_STREAM)
	ports, portsTheirs := pair(t, unix.SOCK_SEQPACKET)
	defer func() { _ = ports.Close() }()
	cmd := exec.Command("/proc/self/exe", child)
	cmd.Env = []string{call.EnvName + "=1"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.ExtraFiles = []*os.File{callsTheirs, portsTheirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = callsTheirs.Close(), portsTheirs.Close()
	var r result
	conn, err := net.FileConn(calls)
	_ = calls.Close()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		call.Serve(conn, func(q call.Request) call.Answer {
			switch q.Op {
			case call.Await:
				return answer
			case call.Self:
				return call.Answer{Identity: &call.Identity{TEE: tee.Software, Simulated: true, InstanceID: "i-1"}}
			case call.Fail:
				r.failed = &q
				return call.Answer{}
			default:
				return call.Answer{Code: tee.CodeUnavailable, Message: "not in this test"}
			}
		})
	}()
	err = cmd.Wait()
	_ = conn.Close()
	<-done
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		r.code = exit.ExitCode()
	}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

func pair(t *testing.T, kind int) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
}

// start is a start message with directories of its own.
func start(t *testing.T, kind, role string, image []byte) *call.Start {
	t.Helper()
	work := t.TempDir()
	s := &call.Start{Kind: kind, Role: role, In: filepath.Join(work, "in"), Out: filepath.Join(work, "out"), State: filepath.Join(t.TempDir(), "state"), MemoryMiB: 16}
	for _, d := range []string{s.In, s.Out, s.State} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.In, "data"), []byte("input"), 0o600); err != nil {
		t.Fatal(err)
	}
	if image != nil {
		s.Image = filepath.Join(work, "image")
		if err := os.WriteFile(s.Image, image, 0o700); err != nil { // it is executed
			t.Fatal(err)
		}
	}
	return s
}

func TestPrograms(t *testing.T) {
	cases := []struct {
		name  string
		start *call.Start
		code  int
		out   string // of stdout
		err   string // in stderr
	}{
		{"module that prints", start(t, "wasm", "", tinywasm.Print("hello")), 0, "hello\n", ""},
		{"module that ends with 7", start(t, "wasm", "", tinywasm.Exit(7)), 7, "", ""},
		{"no module", start(t, "wasm", "", nil), exitRefused, "", "read module"},
		{"not an executable", start(t, "elf", "", []byte("hello")), exitRefused, "", "static executable"},
		{"unknown kind", start(t, "jar", "", nil), exitRefused, "", `unknown image kind "jar"`},
		{"unknown role", start(t, "builtin", "queen", nil), exitRefused, "", `no role "queen"`},
		{"role that fails", start(t, "builtin", "bad", nil), 1, "", "a plain reason"},
		{"role behind its walls", start(t, "builtin", "prisoner", nil), 0, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := become(t, call.Answer{Start: c.start})
			if r.code != c.code || r.stdout != c.out || !strings.Contains(r.stderr, c.err) {
				t.Errorf("status %d, printed %q and %q; want %d, %q and %q", r.code, r.stdout, r.stderr, c.code, c.out, c.err)
			}
			if r.failed != nil {
				t.Errorf("it gave its agent the reason %+v", r.failed)
			}
		})
	}
}

func TestModuleThatTraps(t *testing.T) {
	r := become(t, call.Answer{Start: start(t, "wasm", "", tinywasm.Trap())})
	if r.code == 0 || r.stderr == "" {
		t.Errorf("status %d, printed %q", r.code, r.stderr)
	}
}

func TestRoleKnowsItsDirectories(t *testing.T) {
	s := start(t, "builtin", "good", nil)
	r := become(t, call.Answer{Start: s})
	if want := fmt.Sprintln(s.In, s.Out, s.State, "i-1"); r.code != 0 || r.stdout != want {
		t.Errorf("status %d, printed %q, want %q (%s)", r.code, r.stdout, want, r.stderr)
	}
}

// A coded reason reaches the agent, so that the instance's status names it.
func TestRoleGivesItsReason(t *testing.T) {
	r := become(t, call.Answer{Start: start(t, "builtin", "coded", nil)})
	if r.code != 1 || r.failed == nil || r.failed.Name != "disk" || r.failed.Hint != "make room" || !strings.Contains(string(r.failed.Data), "keep state") {
		t.Errorf("status %d, reason %+v", r.code, r.failed)
	}
}

// Without a go-ahead not a byte of the program runs.
func TestNoGoAhead(t *testing.T) {
	for name, c := range map[string]struct {
		answer call.Answer
		text   string
	}{
		"refused": {call.Answer{Code: tee.CodeUnavailable, Message: "not today"}, "not today"}, "no start message": {call.Answer{}, "no start message"},
	} {
		if r := become(t, c.answer); r.code != exitRefused || !strings.Contains(r.stderr, c.text) || r.stdout != "" {
			t.Errorf("%s: status %d, printed %q and %q", name, r.code, r.stdout, r.stderr)
		}
	}
	// An agent that is gone, and none at all.
	ours, theirs := pair(t, unix.SOCK_STREAM)
	_ = ours.Close()
	for name, files := range map[string][]*os.File{"gone": {theirs}, "none": nil} {
		cmd := exec.Command("/proc/self/exe", child)
		cmd.Env, cmd.ExtraFiles, cmd.Stderr = []string{}, files, io.Discard
		if exit, ok := errors.AsType[*exec.ExitError](cmd.Run()); !ok || exit.ExitCode() != exitRefused {
			t.Errorf("%s: %v", name, exit)
		}
	}
	_ = theirs.Close()
}

func TestDirectories(t *testing.T) {
	env := dirEnv(&call.Start{In: "/i", Out: "/o", State: ""})
	want := []string{call.EnvInputs + "=/i", call.EnvOutputs + "=/o", call.EnvState + "="}
	if strings.Join(env, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", env, want)
	}
}
