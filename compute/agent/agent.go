package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/relay"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Command is the hidden command of this binary that is an instance's agent, and
// InMachine its argument in a virtual machine.
const (
	Command   = "agent"
	InMachine = "in-machine"
)

// The descriptors that an agent is given: by the shim on the software TEE, by the
// first process of the machine (package compute/machine) in a virtual one.
const (
	channelFD = sandbox.FirstFile     // to the host
	deviceFD  = sandbox.FirstFile + 1 // the TEE
	// On the software TEE the instance's lock, which stays open for as long as the
	// agent lives; in a machine the firmware's event log.
	thirdFD = sandbox.FirstFile + 2
)

// agent is one instance seen from inside.
type agent struct {
	link     *link.Link
	events   net.Conn
	tee      platform
	identity call.Identity
	trust    compute.Node // the node to take secrets from
	paths    sandbox.Paths
	walls    sandbox.Report
	doc      launch.Document
	program  *program
	// inMachine is whether this is in a virtual machine, and not on the software TEE.
	inMachine bool
	vault     *vault
	node      func() (nodeTrust, error) // what the node must prove, prepared once
	logs      sync.WaitGroup

	start chan call.Start // the program's go-ahead
	ended chan struct{}   // closed when the instance ends

	mu      sync.Mutex
	secrets map[string][]byte // in the vault
	end     *failure          // why the agent ended the program, if it did
	said    *failure          // why the program says that it ends
}

// failure is a reason for which an instance ends, with a stable code.
type failure struct {
	code     string
	err      error
	hint     string
	failures []tee.Failure
	evidence *tee.Evidence // what was refused
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Main runs the agent until the instance ends and returns its exit status. It
// must be called first of all in a process that [sandbox.Start] started. args are
// what follows [Command]: [InMachine], or nothing for the software TEE.
func Main(args []string) int {
	debug.SetGCPercent(50) // many instances share one machine
	a := &agent{inMachine: len(args) == 1 && args[0] == InMachine, start: make(chan call.Start, 1), ended: make(chan struct{}), secrets: map[string][]byte{}}
	err := a.enter()
	if err == nil {
		err = a.live()
	}
	close(a.ended)
	if a.vault != nil {
		a.vault.wipe()
	}
	if err == nil {
		return 0
	}
	a.report(failedEvent(err))
	fmt.Fprintln(os.Stderr, "agent:", err)
	return 1
}

// enter puts up the walls and opens the channel and the TEE device.
func (a *agent) enter() error {
	var err error
	var outside sandbox.Report
	a.paths, outside, err = sandbox.Enter(func() error {
		a.program, err = startProgram()
		return err
	}, func() error { return a.program.settled() })
	if err != nil {
		return err
	}
	conn, err := a.openChannel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	if a.link, err = link.New(conn, false); err != nil {
		return err
	}
	if a.events, _, err = a.link.Open(link.Request{Op: link.OpEvents}); err != nil {
		return err
	}
	if a.vault, err = newVault(); err != nil {
		return err
	}
	inside, err := sandbox.LockDown(sandbox.Profile{
		ReadDirs: []string{"/proc"}, WriteDirs: []string{a.paths.Work, a.paths.App}, Wait: true,
	})
	if err != nil {
		return err
	}
	if a.vault.secret {
		inside.Applied = append(inside.Applied, sandbox.MemfdSecret)
	} else {
		inside.Missing = append(inside.Missing, sandbox.MemfdSecret)
	}
	a.walls = outside.Merge(inside)
	if a.inMachine {
		a.tee, err = openTPM(a.vault)
	} else {
		a.tee, err = openSoftware()
	}
	return err
}

// openChannel takes over the byte stream to the host: a socket, or the port of a
// virtual machine.
func (a *agent) openChannel() (io.ReadWriteCloser, error) {
	f := os.NewFile(channelFD, "channel")
	if a.inMachine {
		return f, nil
	}
	return fileConn(f)
}

// live takes the instance from launch document to the end of its program.
func (a *agent) live() error {
	a.report(link.Event{State: link.Preparing})
	if err := a.begin(); err != nil {
		return err
	}
	go func() { _, _ = a.node() }() // while the host sends the image
	image, err := a.loadImage()
	if err != nil {
		return err
	}
	if err := a.loadInputs(); err != nil {
		return err
	}
	env, err := a.operatorEnv()
	if err != nil {
		return err
	}
	out := filepath.Join(a.paths.Work, "out")
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	go a.link.Serve(a.serveHost)
	go a.serveProgram()

	a.report(link.Event{State: link.Attesting})
	ready, err := a.attest()
	if err != nil {
		return err
	}
	a.copyLogs()
	a.report(ready)
	for k, v := range a.doc.Env {
		env = append(env, k+"="+v)
	}
	a.start <- call.Start{
		Kind: string(a.doc.Image.Kind), Role: string(a.doc.Role), Image: image, Args: a.doc.Args, Env: env,
		In: filepath.Join(a.paths.Work, "in"), Out: out, State: a.paths.State, MemoryMiB: a.doc.MemoryMiB,
	}
	return a.waitProgram()
}

// waitProgram waits for the program, within its time limit, sends its outputs
// and reports how it ended.
func (a *agent) waitProgram() error {
	if a.doc.TimeLimit > 0 {
		limit := time.AfterFunc(time.Duration(a.doc.TimeLimit)*time.Second, func() {
			a.endProgram(&failure{
				code: "time_limit", err: fmt.Errorf("the program ran longer than its limit of %d s", a.doc.TimeLimit),
				hint: "raise time_limit_s in the launch document, or look for an endless loop",
			})
		})
		defer limit.Stop()
	}
	err := a.program.cmd.Wait()
	a.logs.Wait()
	a.mu.Lock()
	ended, said := a.end, a.said
	a.mu.Unlock()
	if ended != nil {
		return ended
	}
	exit, isExit := errors.AsType[*exec.ExitError](err)
	if err != nil && !isExit {
		return fmt.Errorf("wait for program: %w", err)
	}
	code := 0
	if isExit {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return &failure{code: compute.CodeProgramKilled, err: fmt.Errorf("the program was ended by signal %s", status.Signal())}
		}
		code = exit.ExitCode()
	}
	if code != 0 && said != nil {
		return said
	}
	if err := a.sendOutputs(); err != nil {
		return err
	}
	a.report(link.Event{State: link.Exited, ExitCode: code})
	return nil
}

// endProgram kills the program for a reason that is then reported.
func (a *agent) endProgram(why *failure) {
	a.mu.Lock()
	if a.end == nil {
		a.end = why
	}
	a.mu.Unlock()
	if err := a.program.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		// This process is the first of its PID namespace: when it ends, so does
		// the program, whatever stood in the way.
		why.err = fmt.Errorf("%w (the program could not be killed: %w)", why.err, err)
		a.report(failedEvent(why))
		a.vault.wipe()
		os.Exit(1)
	}
}

// serveHost answers what the host asks of the instance.
func (a *agent) serveHost(r link.Request, s net.Conn) {
	switch r.Op {
	case link.OpPort:
		if !slices.Contains(a.doc.Ports, r.Port) {
			link.Refuse(s, fmt.Sprintf("port %d is not in the launch document", r.Port))
			return
		}
		conn, err := a.program.connect(r.Port)
		if err != nil {
			link.Refuse(s, err.Error())
			return
		}
		if link.Accept(s, 0) != nil {
			_ = conn.Close()
			return
		}
		relay.Both(s, conn)
	case link.OpStop:
		_ = link.Accept(s, 0)
		_ = s.Close()
		a.stopProgram()
	case link.OpEvidence:
		a.serveEvidence(r, s)
	default:
		link.Refuse(s, "unknown request")
	}
}

// stopGrace is how long a program may take to end when asked to.
const stopGrace = 3 * time.Second

func (a *agent) stopProgram() {
	a.mu.Lock()
	if a.end == nil {
		a.end = &failure{code: compute.CodeStoppedRequest, err: errors.New("stopped on request")}
	}
	a.mu.Unlock()
	_ = a.program.cmd.Process.Signal(syscall.SIGTERM)
	time.AfterFunc(stopGrace, func() { _ = a.program.cmd.Process.Kill() })
}
