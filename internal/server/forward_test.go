package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/unixsock"
)

// node puts a socket where the node's shim would answer.
func node(t *testing.T, h *Host, handle func(link.Request, net.Conn)) {
	t.Helper()
	dir := compute.Dir(filepath.Join(h.paths.Instances(), compute.NodeName))
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	control(t, dir, handle)
}

// forwarding runs the forwarder and returns its address.
func forwarding(t *testing.T, h *Host) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.forward(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("forward ended with %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// A client that has said all it wants still gets the whole answer, and the node
// learns that there is no more to come.
func TestForwardPassesHalfCloses(t *testing.T) {
	h, _ := newHost(t)
	node(t, h, func(r link.Request, c net.Conn) {
		if r.Op != link.OpPort || r.Port != compute.NodePort || link.Accept(c, 0) != nil {
			link.Refuse(c, "another port")
			return
		}
		b, err := io.ReadAll(c) // until the client has said all
		if err == nil {
			_, _ = c.Write(append([]byte("heard "), b...))
		}
	})
	address := forwarding(t, h)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c := dial(t, address)
			_, err := io.WriteString(c, "question")
			if err := errors.Join(err, c.CloseWrite()); err != nil {
				t.Error(err)
			}
			if b, err := io.ReadAll(c); err != nil || string(b) != "heard question" {
				t.Errorf("got %q (%v)", b, err)
			}
		})
	}
	wg.Wait()
}

// A node that has said all it wants still hears the client.
func TestForwardPassesTheNodesHalfClose(t *testing.T) {
	h, _ := newHost(t)
	heard := make(chan string, 1)
	node(t, h, func(_ link.Request, c net.Conn) {
		if link.Accept(c, 0) != nil {
			return
		}
		_, _ = io.WriteString(c, "goodbye")
		_ = c.(*net.UnixConn).CloseWrite()
		b, _ := io.ReadAll(c)
		heard <- string(b)
	})
	c := dial(t, forwarding(t, h))
	if b, err := io.ReadAll(c); err != nil || string(b) != "goodbye" {
		t.Fatalf("got %q (%v)", b, err)
	}
	_, err := io.WriteString(c, "one more thing")
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "one more thing" {
		t.Errorf("the node heard %q", got)
	}
}

func TestForwardTurnsClientsAwayWithoutANode(t *testing.T) {
	h, _ := newHost(t)
	address := forwarding(t, h)
	if b, err := io.ReadAll(dial(t, address)); err != nil || len(b) != 0 {
		t.Errorf("got %q (%v), want the connection closed", b, err)
	}
	node(t, h, func(_ link.Request, c net.Conn) { link.Refuse(c, "not yet") })
	if b, err := io.ReadAll(dial(t, address)); err != nil || len(b) != 0 {
		t.Errorf("got %q (%v), want the connection closed", b, err)
	}
}

func TestForwardReportsALostListener(t *testing.T) {
	h, _ := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := h.forward(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// starved is a listener without file descriptors for a while.
type starved struct {
	net.Listener
	failures int
}

func (s *starved) Accept() (net.Conn, error) {
	if s.failures--; s.failures >= 0 {
		return nil, &net.OpError{Op: "accept", Err: unix.EMFILE}
	}
	return s.Listener.Accept()
}

func TestForwardOutlivesAShortage(t *testing.T) {
	h, _ := newHost(t)
	node(t, h, func(_ link.Request, c net.Conn) {
		if link.Accept(c, 0) == nil {
			_, _ = io.WriteString(c, "here")
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.forward(ctx, &starved{l, 2}) }()
	c := dial(t, l.Addr().String())
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "here" {
		t.Errorf("got %q (%v)", b, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("forward ended with %v", err)
	}
}

// connectAs connects to a unix socket as another user, and reports what it read.
func connectAs(uid int, path string) (string, error) {
	type result struct {
		read string
		err  error
	}
	out := make(chan result)
	go func() {
		// The raw call changes this thread only, and it ends with the goroutine.
		runtime.LockOSThread()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			out <- result{"", e}
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			out <- result{"", err}
			return
		}
		defer func() { _ = unix.Close(fd) }()
		b := make([]byte, 16)
		n := 0
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			n, err = unix.Read(fd, b)
		}
		out <- result{string(b[:max(n, 0)]), err}
	}()
	r := <-out
	return r.read, r.err
}

func TestOnlyTheSameUserIsLetIn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs the right to become another user")
	}
	dir, err := os.MkdirTemp("", "sameuser") //nolint:usetesting // other users must get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "api.sock")
	l, err := unixsock.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	// Mode 0600 keeps others out already; this is the second wall.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := sameUser{l, ""}.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "welcome")
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	if got, err := connectAs(os.Geteuid(), path); err != nil || got != "welcome" {
		t.Errorf("the own user reads %q (%v)", got, err)
	}
	if got, err := connectAs(65534, path); got != "" || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		t.Errorf("another user reads %q (%v), want a connection that is dropped", got, err)
	}
	if got, err := connectAs(os.Geteuid(), path); err != nil || got != "welcome" {
		t.Errorf("after another user's try, the own user reads %q (%v)", got, err)
	}
}
