package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/internal/relay"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
)

// What a supervisor asks of a shim, beside link.OpPort, OpStop and OpEvidence.
const (
	opWatch link.Op = "watch" // the status now and after each change
	opKill  link.Op = "kill"  // end the instance at once
)

// maxStatus is the largest status in bytes.
const maxStatus = 1 << 20

// statusFrame carries a status in its JSON form.
type statusFrame struct {
	Status []byte `cbor:"1,keyasint"`
}

func (s *Shim) serveControl(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			if unixsock.SamePeer(c) == nil {
				s.control(s.record.Conn("control", c))
			}
		}()
	}
}

func (s *Shim) control(c net.Conn) {
	defer func() { _ = c.Close() }()
	var r link.Request
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if frame.Read(c, link.MaxRequest, &r) != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	switch r.Op {
	case opWatch:
		s.watch(c)
	case link.OpStop:
		s.stop()
		_ = link.Accept(c, 0)
	case opKill:
		s.kill()
		_ = link.Accept(c, 0)
	case link.OpPort, link.OpEvidence:
		s.forward(r, c)
	default:
		link.Refuse(c, "unknown request")
	}
}

// watch sends the status until the instance has ended or the watcher left.
func (s *Shim) watch(c net.Conn) {
	changes := make(chan compute.Status, 1)
	s.mu.Lock()
	if s.watchers == nil {
		s.mu.Unlock()
		return
	}
	s.watchers[changes] = struct{}{}
	changes <- s.status
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() { // a watcher says nothing; reading tells when it leaves
		var one [1]byte
		_, _ = c.Read(one[:])
		close(gone)
	}()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, changes)
		s.mu.Unlock()
	}()
	for {
		select {
		case st, open := <-changes:
			if !open {
				return
			}
			b, err := json.Marshal(st)
			if err != nil || frame.Write(c, statusFrame{b}) != nil {
				return
			}
		case <-gone:
			return
		}
	}
}

// stop asks the program to end and kills the instance when it does not.
func (s *Shim) stop() {
	s.mu.Lock()
	s.stopping = true
	l, m := s.link, s.machine
	s.mu.Unlock()
	s.set(func(st *compute.Status) { st.State = compute.Stopping })
	if m == nil {
		return // own() looks at stopping before it goes on
	}
	if l != nil {
		if c, _, err := l.Open(link.Request{Op: link.OpStop}); err == nil {
			_ = c.Close()
		}
	}
	time.AfterFunc(stopTimeout, m.Kill)
}

func (s *Shim) kill() {
	s.mu.Lock()
	s.stopping = true
	m := s.machine
	s.mu.Unlock()
	if m != nil {
		m.Kill()
	}
}

// forward connects the supervisor to the instance.
func (s *Shim) forward(r link.Request, c net.Conn) {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l == nil {
		link.Refuse(c, "the instance is not running yet")
		return
	}
	inner, _, err := l.Open(r)
	if err != nil {
		link.Refuse(c, err.Error())
		return
	}
	if link.Accept(c, 0) != nil {
		_ = inner.Close()
		return
	}
	relay.Both(c, inner)
}

// ask opens a control connection and sends one request.
func ask(ctx context.Context, dir compute.Dir, r link.Request) (net.Conn, error) {
	c, err := unixsock.Dial(ctx, dir.Socket())
	if err != nil {
		return nil, err
	}
	if err := frame.Write(c, r); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func askAndWait(ctx context.Context, dir compute.Dir, r link.Request) (net.Conn, error) {
	c, err := ask(ctx, dir, r)
	if err != nil {
		return nil, err
	}
	var reply link.Reply
	if err := frame.Read(c, link.MaxRequest, &reply); err != nil {
		_ = c.Close()
		return nil, err
	}
	if reply.Error != "" {
		_ = c.Close()
		return nil, fmt.Errorf("%w: %s", link.ErrRefused, reply.Error)
	}
	return c, nil
}

// Watch calls changed with the instance's status now and after each change. It
// returns nil when the shim ended in good order, else why the shim was lost or
// could not be reached.
func Watch(ctx context.Context, dir compute.Dir, changed func(compute.Status)) error {
	c, err := ask(ctx, dir, link.Request{Op: opWatch})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	var st compute.Status
	for {
		var f statusFrame
		if err := frame.Read(c, maxStatus, &f); err != nil {
			if errors.Is(err, io.EOF) && st.State.Final() {
				return nil
			}
			return err
		}
		st = compute.Status{}
		if err := json.Unmarshal(f.Status, &st); err != nil {
			return fmt.Errorf("watch instance: %w", err)
		}
		changed(st)
	}
}

// Stop asks the instance in dir to end; it is killed when it does not.
func Stop(ctx context.Context, dir compute.Dir) error { return command(ctx, dir, link.OpStop) }

// Kill ends the instance in dir at once.
func Kill(ctx context.Context, dir compute.Dir) error { return command(ctx, dir, opKill) }

func command(ctx context.Context, dir compute.Dir, op link.Op) error {
	c, err := askAndWait(ctx, dir, link.Request{Op: op})
	if err != nil {
		return err
	}
	return c.Close()
}

// Dial connects to a port of the program in the instance in dir.
func Dial(dir compute.Dir, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return askAndWait(ctx, dir, link.Request{Op: link.OpPort, Port: port})
}

// Evidence asks the instance in dir for evidence over a nonce of the caller's;
// its report data is agent.DescribeBinding.
func Evidence(ctx context.Context, dir compute.Dir, nonce []byte) (tee.Evidence, error) {
	c, err := askAndWait(ctx, dir, link.Request{Op: link.OpEvidence, Data: nonce})
	if err != nil {
		return tee.Evidence{}, err
	}
	defer func() { _ = c.Close() }()
	var ev tee.Evidence
	if err := frame.Read(c, link.MaxEvent, &ev); err != nil {
		return tee.Evidence{}, fmt.Errorf("read evidence: %w", err)
	}
	return ev, nil
}
