//go:build !wasip1

package enclave

import (
	"errors"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// Listen accepts connections to a port that the launch document lists; each
// port once. They come through the host: speak TLS on them.
func (e *Enclave) Listen(port uint16) (net.Listener, error) {
	p := e.agent.(native).ports
	if p == nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "listen", Err: ErrOutside}
	}
	// The listener is there before the agent lets anybody in: a connection that
	// came first would be closed.
	l, err := p.listen(port)
	if err != nil {
		return nil, err
	}
	if _, err := e.agent.Do(call.Request{Op: call.Listen, Number: uint64(port)}); err != nil {
		p.forget(port)
		return nil, err
	}
	return l, nil
}

// ports hands the connections that the agent sends, as file descriptors on one
// socket, to the listener of their port.
type ports struct {
	mu        sync.Mutex
	listeners map[uint16]*listener
}

// backlog is how many accepted connections may wait for one port.
const backlog = 128

func (p *ports) listen(port uint16) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners == nil {
		conn, err := inherit(call.PortsFD)
		if err != nil {
			return nil, err
		}
		p.listeners = map[uint16]*listener{}
		go p.receive(conn.(*net.UnixConn))
	}
	if _, taken := p.listeners[port]; taken {
		return nil, errors.New("listen: the program listens on this port already")
	}
	l := &listener{port: port, conns: make(chan net.Conn, backlog), closed: make(chan struct{})}
	p.listeners[port] = l
	return l, nil
}

// forget gives a port back that the agent did not open.
func (p *ports) forget(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.listeners, port)
}

// receive runs until the agent closes its end, which ends every listener.
func (p *ports) receive(from *net.UnixConn) {
	for {
		port, conn, err := receiveConn(from)
		if err != nil {
			break
		}
		if conn == nil {
			continue
		}
		p.mu.Lock()
		l := p.listeners[port]
		p.mu.Unlock()
		if l == nil || !l.deliver(conn) {
			_ = conn.Close()
		}
	}
	_ = from.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		_ = l.Close()
	}
}

// receiveConn reads one announcement; a malformed one gives no connection.
func receiveConn(from *net.UnixConn) (uint16, net.Conn, error) {
	buf, oob := make([]byte, call.MaxAnnouncement), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := from.ReadMsgUnix(buf, oob)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, net.ErrClosed
	}
	file, err := receivedFile(oob[:oobn])
	if err != nil {
		return 0, nil, nil
	}
	defer func() { _ = file.Close() }()
	var a call.Announcement
	if frame.Unmarshal(buf[:n], &a) != nil {
		return 0, nil, nil
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return 0, nil, nil
	}
	return a.Port, conn, nil
}

func receivedFile(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		for _, fd := range fds { // the buffer's alignment leaves room for two
			_ = unix.Close(fd)
		}
		return nil, errors.New("not one descriptor")
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "connection"), nil
}

// listener is one port's queue.
type listener struct {
	port   uint16
	conns  chan net.Conn
	closed chan struct{}

	mu    sync.Mutex // held while a connection enters the queue or the queue ends
	ended bool
}

// deliver queues c. It refuses when nobody would ever accept it.
func (l *listener) deliver(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	select {
	case l.conns <- c:
		return true
	default:
		return false // the program does not keep up
	}
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops listening and closes the connections that wait.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended = true
	close(l.closed)
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr names the port.
func (l *listener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(l.port)}
}
