package shim

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/internal/relay"
	"github.com/cloister-cc/cloister/tee"
)

// maxOutput bounds one output in bytes; the instance's memory bounds it too.
const maxOutput = 1 << 30

// serveInstance answers what the agent asks of its host. Whatever the instance
// sends is bounded and goes only where its launch document says.
func (s *Shim) serveInstance(r link.Request, c net.Conn) {
	defer func() { _ = c.Close() }()
	switch r.Op {
	case link.OpLaunch:
		s.sendLaunch(c)
	case link.OpImage:
		s.sendFile(c, s.dir.Image(s.intent.Spec.Launch.Image.Digest))
	case link.OpInput:
		if !slices.Contains(s.intent.Spec.Launch.Inputs, r.Name) {
			link.Refuse(c, "no such input")
			return
		}
		s.sendFile(c, s.dir.Input(r.Name))
	case link.OpOutput:
		s.receiveOutput(r, c)
	case link.OpEnv:
		if link.Accept(c, 0) == nil {
			_ = frame.Write(c, s.intent.Spec.Env)
		}
	case link.OpDial:
		s.dialFor(r, c)
	case link.OpLog:
		s.copyLog(r, c)
	case link.OpEvents:
		s.followEvents(c)
	default:
		link.Refuse(c, "unknown request")
	}
}

func (s *Shim) sendLaunch(c net.Conn) {
	document, err := s.intent.Spec.Launch.Encode()
	if err != nil {
		link.Refuse(c, "the launch document is not valid")
		return
	}
	s.mu.Lock()
	node := s.machine.Node()
	s.mu.Unlock()
	if link.Accept(c, 0) == nil {
		_ = frame.Write(c, link.Launch{
			Document: document, Signature: s.intent.Spec.Signature, InstanceID: s.intent.ID, NodeRoot: node.Root, NodeRuntime: node.Runtime,
		})
	}
}

func (s *Shim) sendFile(c net.Conn, path string) {
	f, err := os.Open(path)
	if err != nil {
		link.Refuse(c, filepath.Base(path)+" was not given")
		return
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		link.Refuse(c, "unreadable")
		return
	}
	if link.Accept(c, st.Size()) == nil {
		_, _ = io.Copy(c, f)
	}
}

func (s *Shim) receiveOutput(r link.Request, c net.Conn) {
	if !slices.Contains(s.intent.Spec.Launch.Outputs, r.Name) || r.Size < 0 || r.Size > maxOutput {
		link.Refuse(c, "no such output, or too large")
		return
	}
	if link.Accept(c, 0) != nil {
		return
	}
	if err := storeOutput(s.dir.Output(r.Name), c, r.Size); err != nil {
		link.Refuse(c, err.Error())
		return
	}
	_ = link.Accept(c, 0)
}

func storeOutput(path string, r io.Reader, size int64) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("store output: %w", err)
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := io.CopyN(f, r, size); err != nil {
		return fmt.Errorf("store output: %w", err)
	}
	return f.CloseAtomicallyReplace()
}

func (s *Shim) dialFor(r link.Request, c net.Conn) {
	target, err := s.dialSibling(r.Name)
	if err != nil {
		link.Refuse(c, err.Error())
		return
	}
	if link.Accept(c, 0) != nil {
		_ = target.Close()
		return
	}
	relay.Both(c, target)
}

func (s *Shim) copyLog(r link.Request, c net.Conn) {
	if r.Name != "stdout" && r.Name != "stderr" {
		link.Refuse(c, "no such log")
		return
	}
	s.logs.Add(1)
	defer s.logs.Done()
	if link.Accept(c, 0) != nil {
		return
	}
	_, _ = io.CopyBuffer(s.log.stream(r.Name), c, make([]byte, maxLogChunk))
}

// followEvents turns the agent's events into the status.
func (s *Shim) followEvents(c net.Conn) {
	if link.Accept(c, 0) != nil {
		return
	}
	for {
		var e link.Event
		if err := frame.Read(c, link.MaxEvent, &e); err != nil {
			return
		}
		s.event(e)
		if e.State == link.Exited || e.State == link.Failed {
			_ = link.Accept(c, 0)
			return
		}
	}
}

func (s *Shim) event(e link.Event) {
	lease := func(st *compute.Status) {
		if e.Lease > 0 {
			st.Lease = time.Unix(e.Lease, 0).UTC()
		}
	}
	switch e.State {
	case link.Attesting:
		s.set(func(st *compute.Status) { st.State = compute.Attesting })
	case link.Ready:
		differences := s.differences(e.Evidence)
		s.set(func(st *compute.Status) {
			st.State, st.ReadyAt, st.Evidence, st.Token = compute.Running, time.Now().UTC(), e.Evidence, e.Token
			st.Differences = differences
			lease(st)
		})
	case link.Renewed:
		s.set(func(st *compute.Status) { st.Token = e.Token; lease(st) })
	case link.Exited:
		code := e.ExitCode
		final := compute.Status{State: compute.Stopped, ExitCode: &code}
		if code != 0 {
			final.State, final.Code = compute.Failed, compute.CodeProgramStatus
			final.Message = fmt.Sprintf("the program ended with status %d", code)
		}
		s.setFinal(final)
	case link.Failed:
		final := compute.Status{State: compute.Failed, Code: e.Code, Message: e.Message, Hint: e.Hint, Failures: e.Failures}
		if final.Differences = s.differences(e.Evidence); len(final.Differences) > 0 {
			for _, d := range final.Differences {
				final.Message += "; " + d.Claim + " differs: " + d.Hint
			}
		}
		if e.Code == compute.CodeStoppedRequest {
			final = compute.Status{State: compute.Stopped, Code: e.Code, Message: e.Message}
		}
		s.setFinal(final)
	}
}

// differences says what of evidence is not as expected, nothing when there is none.
func (s *Shim) differences(ev *tee.Evidence) []tee.Failure {
	if ev == nil {
		return nil
	}
	return s.driver.Compare(compute.Expectation{Measurement: s.intent.Expected, Registers: s.intent.ExpectedRegisters, Simulated: s.intent.Simulated}, *ev)
}
