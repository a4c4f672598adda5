package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/tap"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
)

// ErrRunning means that another shim owns the instance already. Leave it alone.
var ErrRunning = errors.New("another shim owns this instance")

// Limits in time.
const (
	readyTimeout = 2 * time.Minute
	stopTimeout  = 5 * time.Second // after which a stop becomes a kill
	logGrace     = 2 * time.Second // for the last log lines to arrive
)

// Shim owns one instance.
type Shim struct {
	dir    compute.Dir
	lock   *os.File
	intent compute.Intent
	driver compute.Driver
	logger *slog.Logger
	record tap.Dir
	log    *consoleLog
	link   *link.Link
	logs   sync.WaitGroup // open log streams

	mu       sync.Mutex
	status   compute.Status
	watchers map[chan compute.Status]struct{}
	final    *compute.Status // what the instance said of its end
	stopping bool
	machine  compute.Machine
}

// Run owns the instance in dir until it has ended. It returns [ErrRunning] when
// another process does already. What passes between the instance and this
// process is recorded in record, unless that is empty.
func Run(ctx context.Context, dir compute.Dir, driverFor func(tee.Kind) (compute.Driver, error), record tap.Dir, logger *slog.Logger) error {
	lock, err := compute.Lock(dir.Lock())
	if errors.Is(err, compute.ErrLocked) {
		return ErrRunning
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	intent, err := dir.ReadIntent()
	if err != nil {
		return err
	}
	s := &Shim{dir: dir, lock: lock, intent: intent, logger: logger, record: record, watchers: map[chan compute.Status]struct{}{}}
	s.status = compute.Status{Epoch: intent.Epoch, ShimPID: os.Getpid(), StartedAt: time.Now().UTC()}
	listener, err := unixsock.Listen(dir.Socket())
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	s.set(func(st *compute.Status) { st.State = compute.Preparing })
	go s.serveControl(listener)
	if s.driver, err = driverFor(intent.Spec.TEE); err == nil {
		err = s.own(ctx)
	}
	s.finish(err)
	return nil
}

// own starts the instance and serves it until nothing of it runs.
func (s *Shim) own(ctx context.Context) error {
	var err error
	if s.log, err = openLog(s.dir.Log()); err != nil {
		return &tee.Error{Code: compute.CodeDisk, Op: "open console log", Err: err}
	}
	defer s.log.close()
	document, err := s.intent.Spec.Launch.Encode()
	if err != nil {
		return err
	}
	machine, err := s.driver.Boot(ctx, compute.Boot{
		ID: s.intent.ID, Dir: s.dir, Lock: s.lock, Document: document, Spec: s.intent.Spec, Output: os.Stderr,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.machine = machine
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		machine.Kill()
		return errStopped
	}
	l, err := link.New(s.record.Stream("channel", machine.Channel()), true)
	if err != nil {
		machine.Kill()
		return err
	}
	s.mu.Lock()
	s.link = l
	s.mu.Unlock()
	served := make(chan struct{})
	go func() { l.Serve(s.serveInstance); close(served) }()
	s.await(ctx, machine)
	_ = l.Close()
	<-served
	s.waitLogs()
	return s.ending(machine)
}

var errStopped = &tee.Error{Code: compute.CodeStoppedRequest, Op: "stop instance"}

// await waits for the end of the instance, and ends it when it is not ready in
// time or the shim is told to go.
func (s *Shim) await(ctx context.Context, m compute.Machine) {
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-m.Done():
			return
		case <-ctx.Done():
			m.Kill()
			return
		case <-timeout.C:
			if s.snapshot().ReadyAt.IsZero() {
				s.setFinal(compute.Status{State: compute.Failed, Code: compute.CodeReadyTimeout,
					Message: fmt.Sprintf("not attested within %s", readyTimeout), Hint: "see its log: cloister instance logs " + s.intent.Name})
				m.Kill()
				return
			}
		}
	}
}

// waitLogs waits a moment for log streams to be read to their end.
func (s *Shim) waitLogs() {
	done := make(chan struct{})
	go func() { s.logs.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(logGrace):
	}
}

// ending explains why the instance ended when it did not say so itself.
func (s *Shim) ending(m compute.Machine) error {
	code, message := m.Postmortem()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final != nil {
		// The kernel may have picked the program and left the agent alive: then
		// the agent saw a kill, and only the host knows why.
		if code == compute.CodeOutOfMemory && s.final.Code == compute.CodeProgramKilled {
			s.final.Code, s.final.Message, s.final.Hint = code, message, "raise memory_mib in the launch document"
		}
		return nil
	}
	if s.stopping {
		return errStopped
	}
	if code == "" {
		code, message = compute.CodeAgentLost, "the instance ended without a word"
	}
	s.final = &compute.Status{State: compute.Failed, Code: code, Message: message}
	return nil
}

// finish writes the final status.
func (s *Shim) finish(err error) {
	s.mu.Lock()
	final := s.final
	s.mu.Unlock()
	if final == nil {
		final = &compute.Status{State: compute.Failed, Code: compute.CodeLaunchRefused, Message: "ended"}
	}
	if err != nil {
		final.Message = err.Error()
		if e, ok := errors.AsType[*tee.Error](err); ok {
			final.Code, final.Hint = string(e.Code), e.Hint
		}
		if errors.Is(err, errStopped) {
			final = &compute.Status{State: compute.Stopped, Code: compute.CodeStoppedRequest, Message: "stopped on request"}
		}
	}
	s.set(func(st *compute.Status) {
		st.State, st.Code, st.Message, st.Hint, st.Failures, st.ExitCode = final.State, final.Code, final.Message, final.Hint, final.Failures, final.ExitCode
		if len(final.Differences) > 0 {
			st.Differences = final.Differences
		}
		st.ShimPID = 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		close(w)
	}
	s.watchers = nil
}

// set changes the status, writes it and tells the watchers.
func (s *Shim) set(change func(*compute.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State.Final() {
		return // a late event or stop must not undo the end
	}
	before := s.status.State
	change(&s.status)
	if s.status.State != before {
		s.status.Since = time.Now().UTC()
	}
	if err := s.dir.WriteStatus(s.status); err != nil {
		s.logger.Warn("status not written", slog.Any("error", err))
	}
	for w := range s.watchers {
		select {
		case <-w: // a slow watcher gets the newest status only
		default:
		}
		w <- s.status
	}
}

func (s *Shim) setFinal(f compute.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final == nil {
		s.final = &f
	}
}

func (s *Shim) snapshot() compute.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// dialSibling connects to a port of another instance of this host: the node.
func (s *Shim) dialSibling(name string) (net.Conn, error) {
	if name != compute.NodeName {
		return nil, fmt.Errorf("no service called %q", name)
	}
	return Dial(compute.Dir(filepath.Join(filepath.Dir(string(s.dir)), name)), compute.NodePort)
}
