package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
)

// ProgramCommand is the hidden command of this binary that becomes the program;
// see package compute/program.
const ProgramCommand = "program"

// program is the process that will become the user's program. It is started
// while this binary can still be executed, and waits, locked in trusted code,
// until the agent answers its question what to be.
type program struct {
	cmd    *exec.Cmd
	calls  net.Conn // requests of the program
	ports  *net.UnixConn
	asked  bool     // what to be
	output *os.File // what it prints on stdout and stderr, read side
	errors *os.File

	mu       sync.Mutex
	listened map[uint16]bool
	changed  chan struct{} // closed and replaced when listened changes
}

func startProgram() (*program, error) {
	for fd := 3; fd <= thirdFD; fd++ {
		unix.CloseOnExec(fd) // the channel and the TEE device are not the program's
	}
	callsOurs, callsTheirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	portsOurs, portsTheirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", ProgramCommand)
	cmd.Args[0] = "cloister"
	cmd.Env = []string{call.EnvName + "=1"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = outW, errW
	cmd.ExtraFiles = []*os.File{callsTheirs, portsTheirs}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start program process: %w", err)
	}
	for _, f := range []*os.File{callsTheirs, portsTheirs, outW, errW} {
		_ = f.Close()
	}
	calls, err := fileConn(callsOurs)
	if err != nil {
		return nil, err
	}
	ports, err := fileConn(portsOurs)
	if err != nil {
		return nil, err
	}
	return &program{
		cmd: cmd, calls: calls, ports: ports.(*net.UnixConn), output: outR, errors: errR,
		listened: map[uint16]bool{}, changed: make(chan struct{}),
	}, nil
}

// settled returns when the process needs no more of the host's files. A static
// build needs none once it has been started; a dynamic one loads its libraries
// first, and has when it asks what to be.
func (p *program) settled() error {
	if !dynamic {
		return nil
	}
	return p.awaitQuestion()
}

// awaitQuestion waits until the process runs our code and asks what to be.
func (p *program) awaitQuestion() error {
	if p.asked {
		return nil
	}
	p.asked = true
	var r call.Request
	if err := frame.Read(p.calls, call.MaxFrame, &r); err != nil {
		return fmt.Errorf("start program process: %w", err)
	}
	if r.Op != call.Await {
		return fmt.Errorf("start program process: it asks for %q first", r.Op)
	}
	return nil
}

func socketpair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "agent side"), os.NewFile(uintptr(fds[1]), "other side"), nil
}

// fileConn turns f into a connection and closes f.
func fileConn(f *os.File) (net.Conn, error) {
	conn, err := net.FileConn(f)
	return conn, errors.Join(err, f.Close())
}

// listen notes that the program accepts connections to port.
func (p *program) listen(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listened[port] = true
	close(p.changed)
	p.changed = make(chan struct{})
}

// listenPatience is how long a connection waits for a program that has just
// started to listen.
const listenPatience = 10 * time.Second

// awaitListen waits until the program listens on port.
func (p *program) awaitListen(port uint16) error {
	timeout := time.NewTimer(listenPatience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		ok, changed := p.listened[port], p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return fmt.Errorf("the program does not listen on port %d", port)
		}
	}
}

// connect passes one end of a new socket pair to the program's listener of port
// and returns the other.
func (p *program) connect(port uint16) (net.Conn, error) {
	if err := p.awaitListen(port); err != nil {
		return nil, err
	}
	ours, theirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	conn, err := fileConn(ours)
	if err != nil {
		return nil, err
	}
	var message bytesWriter
	if err := frame.Write(&message, call.Announcement{Port: port}); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The socket keeps message boundaries, so the length prefix is left out.
	if _, _, err := p.ports.WriteMsgUnix(message[4:], unix.UnixRights(int(theirs.Fd())), nil); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("pass connection to program: %w", err)
	}
	return conn, nil
}

type bytesWriter []byte

func (b *bytesWriter) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}
