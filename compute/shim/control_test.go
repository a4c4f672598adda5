package shim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
)

// raw sends bytes to a shim's socket, says that there are no more, and returns
// what comes back.
func raw(t *testing.T, dir compute.Dir, b []byte) []byte {
	t.Helper()
	c, err := unixsock.Dial(t.Context(), dir.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write(b) // the shim may hang up in the middle
	_ = c.CloseWrite()
	got, _ := io.ReadAll(c)
	return got
}

func encoded(v any) []byte {
	var b bytes.Buffer
	_ = frame.Write(&b, v) // a buffer takes everything
	return b.Bytes()
}

func TestMalformedRequests(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	good := encoded(link.Request{Op: link.OpStop})
	for name, b := range map[string][]byte{
		"nothing": nil, "half a length": {0, 0}, "no body": {0, 0, 0, 9}, "empty frame": {0, 0, 0, 0},
		"cut":       good[:len(good)-1],
		"not CBOR":  {0, 0, 0, 2, 0xff, 0xff},
		"endless":   binary.BigEndian.AppendUint32(nil, 1<<31),
		"over-long": encoded(link.Request{Op: link.OpStop, Name: strings.Repeat("x", link.MaxRequest)}),
		"HTTP":      []byte("GET / HTTP/1.1\r\n\r\n"),
		"a reply":   encoded(link.Reply{Size: 1 << 40}),
	} {
		if got := raw(t, r.dir, b); len(got) != 0 {
			t.Errorf("%s: answered with %q", name, got)
		}
	}
	var reply link.Reply
	got := raw(t, r.dir, encoded(link.Request{Op: "open the door"}))
	if err := frame.Read(bytes.NewReader(got), link.MaxRequest, &reply); err != nil || reply.Error == "" {
		t.Errorf("an unknown request: %+v, %v", reply, err)
	}
	if s := r.dir.ReadStatus(); s.State != compute.Preparing {
		t.Errorf("the instance is %s", s.State)
	}
	a.m.end(false)
	r.end(t)
}

// agentOf answers the host's requests as an agent does.
func agentOf(asked chan<- link.Request) func(link.Request, net.Conn) {
	return func(r link.Request, c net.Conn) {
		defer func() { _ = c.Close() }()
		switch {
		case r.Op == link.OpStop:
			_ = link.Accept(c, 0)
			asked <- r
		case r.Op == link.OpPort && r.Port == 80:
			if link.Accept(c, 0) == nil {
				b, _ := io.ReadAll(c)
				_, _ = c.Write(append([]byte("heard "), b...))
			}
		case r.Op == link.OpEvidence && len(r.Data) == 32:
			if link.Accept(c, 0) == nil {
				_ = frame.Write(c, tee.Evidence{Kind: tee.Software, Data: r.Data})
			}
		case r.Op == link.OpEvidence && len(r.Data) == 1: // a torn answer
			if link.Accept(c, 0) == nil {
				_, _ = c.Write([]byte{0, 0, 0, 9, 1})
			}
		default:
			link.Refuse(c, "not here")
		}
	}
}

func TestDialAndEvidence(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, agentOf(nil))
	c, err := Dial(r.dir, 80)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(c, "question")
	if err := errors.Join(err, c.(*net.UnixConn).CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "heard question" {
		t.Errorf("a client that has said all it wants gets %q (%v)", b, err)
	}
	_ = c.Close()
	if _, err := Dial(r.dir, 81); !errors.Is(err, link.ErrRefused) || !strings.Contains(err.Error(), "not here") {
		t.Errorf("another port: %v", err)
	}
	nonce := bytes.Repeat([]byte{'n'}, 32)
	if ev, err := Evidence(t.Context(), r.dir, nonce); err != nil || !bytes.Equal(ev.Data, nonce) {
		t.Errorf("evidence %+v, %v", ev, err)
	}
	if _, err := Evidence(t.Context(), r.dir, nil); !errors.Is(err, link.ErrRefused) {
		t.Errorf("evidence that the agent refuses: %v", err)
	}
	if ev, err := Evidence(t.Context(), r.dir, []byte{1}); err == nil {
		t.Errorf("half of an answer is evidence %+v", ev)
	}
	a.m.end(false)
	r.end(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := Evidence(ctx, r.dir, nonce); err == nil {
		t.Error("an instance that has ended gives evidence")
	}
}

func TestStopAsksTheAgent(t *testing.T) {
	r := start(t, &fakeDriver{})
	asked := make(chan link.Request, 1)
	a := r.agent(t, agentOf(asked))
	w := watch(t, r.dir)
	w.state(t, compute.Preparing)
	if err := Stop(t.Context(), r.dir); err != nil {
		t.Fatal(err)
	}
	<-asked
	w.state(t, compute.Stopping)
	a.report(link.Event{State: link.Failed, Code: compute.CodeStoppedRequest, Message: "stopped on request"})
	a.m.end(false)
	if s := w.state(t, compute.Stopped); s.Code != compute.CodeStoppedRequest {
		t.Errorf("stopped: %+v", s)
	}
	r.end(t)
	if a.m.killed {
		t.Error("an agent that obeys was killed")
	}
}

func TestKillAsksNobody(t *testing.T) {
	r := start(t, &fakeDriver{})
	asked := make(chan link.Request, 1)
	a := r.agent(t, agentOf(asked))
	if err := Kill(t.Context(), r.dir); err != nil {
		t.Fatal(err)
	}
	if s := r.end(t); s.State != compute.Stopped || s.Code != compute.CodeStoppedRequest || !a.m.killed || len(asked) != 0 {
		t.Errorf("%+v, killed %v, agent asked %d times", s, a.m.killed, len(asked))
	}
	if err := Kill(t.Context(), r.dir); err == nil {
		t.Error("a shim that is gone obeys")
	}
}

// A stop that comes before there is a machine is not forgotten.
func TestStopBeforeTheMachine(t *testing.T) {
	for name, ask := range map[string]func(context.Context, compute.Dir) error{"stop": Stop, "kill": Kill} {
		t.Run(name, func(t *testing.T) {
			booting, goOn := make(chan struct{}), make(chan struct{})
			r := start(t, &fakeDriver{boot: func(compute.Boot) error { close(booting); <-goOn; return nil }})
			<-booting
			if _, err := Dial(r.dir, 80); !errors.Is(err, link.ErrRefused) {
				t.Errorf("a port before there is an instance: %v", err)
			}
			if err := ask(t.Context(), r.dir); err != nil {
				t.Error(err)
			}
			close(goOn)
			if s := r.end(t); s.State != compute.Stopped || s.Code != compute.CodeStoppedRequest {
				t.Errorf("got %+v", s)
			}
			if m := <-r.driver.booted; !m.killed {
				t.Error("the machine lives")
			}
		})
	}
}

func TestWatchLearnsThatTheShimIsLost(t *testing.T) {
	dir := newDir(t)
	ignore := func(compute.Status) {}
	if err := Watch(t.Context(), dir, ignore); err == nil {
		t.Error("no shim is watched without an error")
	}
	l, err := unixsock.Listen(dir.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	stopped := encoded(statusFrame{[]byte(`{"state":"stopped"}`)})
	for name, answer := range map[string][]byte{
		"killed while running": encoded(statusFrame{[]byte(`{"state":"running"}`)}), "not a status": encoded(statusFrame{[]byte(`{`)}),
		"killed at once": nil, "torn": {0, 0, 0, 9, 1}, "torn after the end": append(bytes.Clone(stopped), 0), "in good order": stopped,
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = c.Close() }()
				var req link.Request
				if err := frame.Read(c, link.MaxRequest, &req); err != nil || req.Op != opWatch {
					t.Errorf("asked for %q (%v)", req.Op, err)
				}
				_, _ = c.Write(answer)
			}()
			err := Watch(t.Context(), dir, ignore)
			if (err == nil) != (name == "in good order") {
				t.Errorf("got %v", err)
			}
			<-done
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	if err := Watch(ctx, r.dir, func(compute.Status) { cancel() }); err == nil {
		t.Error("a watcher that left is told that the shim ended")
	}
	a.m.end(false)
	r.end(t)
}

// The instance may reach the node through its host, and nobody else.
func TestDialForTheInstance(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	a.refused(link.Request{Op: link.OpDial, Name: "node"}) // it does not run
	a.refused(link.Request{Op: link.OpDial, Name: "0123456789abcdef"})
	a.refused(link.Request{Op: link.OpDial, Name: "../0123456789abcdef"})
	a.refused(link.Request{Op: link.OpDial})

	node := compute.Dir(filepath.Join(filepath.Dir(string(r.dir)), compute.NodeName))
	if err := node.Make(); err != nil {
		t.Fatal(err)
	}
	l, err := unixsock.Listen(node.Socket())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		var req link.Request
		if frame.Read(c, link.MaxRequest, &req) == nil && req.Op == link.OpPort && req.Port == compute.NodePort && link.Accept(c, 0) == nil {
			_, _ = io.Copy(c, c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	c := a.open(link.Request{Op: link.OpDial, Name: "node"})
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // a stream's Close ends its write side
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("the node's echo is %q (%v)", b, err)
	}
	a.m.end(false)
	r.end(t)
}
