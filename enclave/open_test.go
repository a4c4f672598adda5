//go:build linux

package enclave_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// childRole names what this test binary does instead of testing.
const childRole = "CLOISTER_TEST_CHILD"

// child is a native program. It reports on standard output.
func child(role string) int {
	e, err := enclave.Open()
	switch role {
	case "outside":
		fmt.Println("outside:", errors.Is(err, enclave.ErrOutside))
		// What lies at the number of the agent's socket is not ours to close.
		b, err := io.ReadAll(os.NewFile(call.SocketFD, "mine"))
		fmt.Printf("mine: %s %v\n", b, err)
	case "inside":
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("instance:", e.Self().InstanceID)
		if err := greet(e); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

// greet serves one connection on port 443 and finds port 80 refused.
func greet(e *enclave.Enclave) error {
	_, err := e.Listen(80)
	refusal, ok := errors.AsType[*tee.Error](err)
	fmt.Println("port 80 refused:", ok && refusal.Code == tee.CodeUnavailable)
	l, err := e.Listen(443)
	if err != nil {
		return err
	}
	_, err = e.Listen(443)
	fmt.Println("port 443 twice:", err)
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, "served on "+l.Addr().String())
	return errors.Join(err, conn.Close(), l.Close())
}

// start runs this binary as a child with files at descriptor 3 and above.
func start(t *testing.T, role string, files ...*os.File) (wait func() string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = []string{childRole + "=" + role, call.EnvName + "=1"}
	cmd.ExtraFiles = files
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		_ = f.Close()
	}
	return func() string {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, out.String())
		}
		return out.String()
	}
}

func socketpair(t *testing.T, kind int) (ours net.Conn, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	ours, err = net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	return ours, os.NewFile(uintptr(fds[1]), "theirs")
}

func TestOpenOutside(t *testing.T) {
	t.Setenv(call.EnvName, "")
	if _, err := enclave.Open(); !errors.Is(err, enclave.ErrOutside) {
		t.Errorf("got %v, want ErrOutside", err)
	}
}

// TestOpenOutsideWithTheVariableSet: a variable that somebody exported does not
// make an instance, and what is open at the agent's number stays open.
func TestOpenOutsideWithTheVariableSet(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	wait := start(t, "outside", r)
	if _, err := io.WriteString(w, "kept"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := wait(), "outside: true\nmine: kept <nil>\n"; got != want {
		t.Errorf("the program says %q, want %q", got, want)
	}
}

func TestOpenConnRefusesAnAgentWithoutIdentity(t *testing.T) {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		call.Serve(theirs, func(call.Request) call.Answer { return call.Answer{} })
	}()
	if _, err := enclave.OpenConn(ours); err == nil {
		t.Error("an agent that does not say who this is was accepted")
	}
	_ = ours.Close()
	<-done
}

// TestOpenInside starts a native program as an instance does: with the agent's
// two sockets.
func TestOpenInside(t *testing.T) {
	calls, callsTheirs := socketpair(t, unix.SOCK_STREAM)
	ports, portsTheirs := socketpair(t, unix.SOCK_SEQPACKET)
	wait := start(t, "inside", callsTheirs, portsTheirs)
	listens := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		call.Serve(calls, func(r call.Request) call.Answer {
			switch {
			case r.Op == call.Self:
				return call.Answer{Identity: &call.Identity{TEE: tee.Software, InstanceID: "i-7"}}
			case r.Op == call.Listen && r.Number == 443:
				listens <- struct{}{}
				return call.Answer{}
			}
			return call.Answer{Code: tee.CodeUnavailable, Message: "no"}
		})
	}()
	<-listens // the listener is there before the agent is asked
	ours, theirs := socketpair(t, unix.SOCK_STREAM)
	announce(t, ports.(*net.UnixConn), call.Announcement{Port: 443}, theirs)
	got, err := io.ReadAll(ours)
	if err != nil || string(got) != "served on 127.0.0.1:443" {
		t.Errorf("the program served %q, %v", got, err)
	}
	want := "instance: i-7\nport 80 refused: true\nport 443 twice: listen: the program listens on this port already\n"
	if got := wait(); got != want {
		t.Errorf("the program says %q, want %q", got, want)
	}
	<-done
}

// announce passes a connection as the agent does.
func announce(t *testing.T, to *net.UnixConn, a call.Announcement, f *os.File) {
	t.Helper()
	var b strings.Builder
	if err := frame.Write(&b, a); err != nil {
		t.Fatal(err)
	}
	if _, _, err := to.WriteMsgUnix([]byte(b.String()[4:]), unix.UnixRights(int(f.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
