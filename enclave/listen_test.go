//go:build linux

package enclave

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
)

// newPorts returns the program's side of a ports socket, receiving, and the
// agent's side of it.
func newPorts(t *testing.T) (*ports, *net.UnixConn) {
	t.Helper()
	ours, theirs := unixPair(t, unix.SOCK_SEQPACKET)
	p := &ports{listeners: map[uint16]*listener{}}
	done := make(chan struct{})
	go func() { defer close(done); p.receive(theirs) }()
	t.Cleanup(func() { _ = ours.Close(); <-done })
	return p, ours
}

func unixPair(t *testing.T, kind int) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conns[i], err = net.FileConn(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	return conns[0].(*net.UnixConn), conns[1].(*net.UnixConn)
}

// packet is an announcement without its length.
type packet []byte

func (p *packet) Write(b []byte) (int, error) { *p = append(*p, b...); return len(b), nil }

func announcement(t *testing.T, port uint16) []byte {
	t.Helper()
	var p packet
	if err := frame.Write(&p, call.Announcement{Port: port}); err != nil {
		t.Fatal(err)
	}
	return p[4:]
}

// send passes n copies of one end of a new connection and returns the other.
func send(t *testing.T, to *net.UnixConn, message []byte, n int) net.Conn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rights []byte
	if n > 0 {
		same := make([]int, n)
		for i := range same {
			same[i] = fds[1]
		}
		rights = unix.UnixRights(same...)
	}
	if _, _, err := to.WriteMsgUnix(message, rights, nil); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	conn, err := net.FileConn(f)
	if err := errors.Join(err, f.Close(), unix.Close(fds[1])); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// wantClosed: nobody holds the other end of conn any more.
func wantClosed(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%s: read %d bytes, want the connection closed", what, n)
	}
}

func TestConnectionsGoToTheirPort(t *testing.T) {
	p, agent := newPorts(t)
	a, err := p.listen(1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.listen(2)
	if err != nil {
		t.Fatal(err)
	}
	for port, l := range map[uint16]net.Listener{1: a, 2: b} {
		ours := send(t, agent, announcement(t, port), 1)
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Write([]byte{byte(port)}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1)
		if _, err := theirs.Read(got); err != nil || got[0] != byte(port) {
			t.Errorf("port %d received %v, %v", port, got, err)
		}
		_ = theirs.Close()
	}
	wantClosed(t, "a port that nobody listens on", send(t, agent, announcement(t, 3), 1))
	_ = a.Close()
	wantClosed(t, "a port that is no longer listened on", send(t, agent, announcement(t, 1), 1))
	if _, err := a.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
}

func TestMalformedAnnouncementsAreDropped(t *testing.T) {
	p, agent := newPorts(t)
	l, err := p.listen(1)
	if err != nil {
		t.Fatal(err)
	}
	good := announcement(t, 1)
	wantClosed(t, "not CBOR", send(t, agent, []byte{0xff}, 1))
	wantClosed(t, "no descriptor", send(t, agent, good, 0))
	wantClosed(t, "two descriptors", send(t, agent, good, 2))
	wantClosed(t, "something behind it", send(t, agent, append(append([]byte{}, good...), 0), 1))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := agent.WriteMsgUnix(good, unix.UnixRights(int(r.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer func() { _ = w.Close() }()
	send(t, agent, good, 1)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal("a good announcement after bad ones is lost:", err)
	}
	_ = conn.Close()
	if _, err := w.WriteString("x"); err == nil {
		t.Error("a descriptor that is no socket stays open")
	}
}

func TestBacklogIsBounded(t *testing.T) {
	p, agent := newPorts(t)
	l, err := p.listen(1)
	if err != nil {
		t.Fatal(err)
	}
	var waiting []net.Conn
	for range backlog {
		waiting = append(waiting, send(t, agent, announcement(t, 1), 1))
	}
	wantClosed(t, "one more than the backlog", send(t, agent, announcement(t, 1), 1))
	_ = l.Close()
	for _, conn := range waiting {
		wantClosed(t, "a connection that nobody accepted", conn)
	}
}

func TestListenersEndWithTheAgent(t *testing.T) {
	p, agent := newPorts(t)
	l, err := p.listen(1)
	if err != nil {
		t.Fatal(err)
	}
	_ = agent.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept without an agent: %v, want net.ErrClosed", err)
	}
}
