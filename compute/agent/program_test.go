package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/internal/relay"
)

// ports gives a program its ports socket and returns the program's end.
func ports(t *testing.T, p *program) *net.UnixConn {
	t.Helper()
	ours, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, f := range []*os.File{ours, theirs} {
		c, err := fileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	p.ports = conns[0]
	return conns[1]
}

// accept receives one connection as package enclave does.
func accept(t *testing.T, c *net.UnixConn) (uint16, net.Conn) {
	t.Helper()
	message, oob := make([]byte, call.MaxAnnouncement), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(message, oob)
	if err != nil {
		t.Fatal(err)
	}
	var a call.Announcement
	control, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err := errors.Join(err, frame.Unmarshal(message[:n], &a)); err != nil || len(control) != 1 {
		t.Fatalf("%d control messages, %v", len(control), err)
	}
	fds, err := unix.ParseUnixRights(&control[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%d descriptors, %v", len(fds), err)
	}
	conn, err := fileConn(os.NewFile(uintptr(fds[0]), "passed"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return a.Port, conn
}

func TestConnect(t *testing.T) {
	p := newProgram()
	inside := ports(t, p)
	p.listen(80)
	p.listen(443)
	p.listen(443) // twice is once
	for _, port := range []uint16{80, 443, 80} {
		outer, err := p.connect(port)
		if err != nil {
			t.Fatal(err)
		}
		got, inner := accept(t, inside)
		if got != port {
			t.Errorf("announced as port %d, want %d", got, port)
		}
		_, err = io.WriteString(outer, "question")
		if err := errors.Join(err, outer.(*net.UnixConn).CloseWrite()); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(inner); err != nil || string(b) != "question" {
			t.Errorf("the program reads %q (%v)", b, err)
		}
		_ = outer.Close()
	}
	_ = inside.Close()
	if c, err := p.connect(80); err == nil {
		_ = c.Close()
		t.Error("connected to a program that is gone")
	}
}

// A connection may come before the program listens, but not wait for ever.
func TestAwaitListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram()
		begin := time.Now()
		time.AfterFunc(time.Second, func() { p.listen(81) }) // not this one
		time.AfterFunc(2*time.Second, func() { p.listen(80) })
		if err := p.awaitListen(80); err != nil || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if err := p.awaitListen(80); err != nil || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %s, want it at once", err, time.Since(begin))
		}
		begin = time.Now()
		if err := p.awaitListen(443); err == nil || time.Since(begin) != listenPatience {
			t.Errorf("%v after %s, want an error after %s", err, time.Since(begin), listenPatience)
		}
	})
}

// A client that has said all it wants still gets its answer, and so does a
// program that speaks first.
func TestRelayPassesHalfCloses(t *testing.T) {
	tcp := func() (a, b net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if b, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	for _, clientFirst := range []bool{true, false} {
		client, hostSide := tcp()
		programSide, server := tcp()
		var wg sync.WaitGroup
		wg.Go(func() { relay.Both(hostSide, programSide) })
		first, second := client, server
		if !clientFirst {
			first, second = server, client
		}
		_, err := io.WriteString(first, "question")
		if err := errors.Join(err, first.(*net.TCPConn).CloseWrite()); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(second)
		if err != nil || string(b) != "question" {
			t.Errorf("client first %v: heard %q (%v)", clientFirst, b, err)
		}
		answer := bytes.Repeat([]byte("answer"), 100_000)
		wg.Go(func() { _, _ = second.Write(answer); _ = second.Close() })
		if b, err := io.ReadAll(first); err != nil || !bytes.Equal(b, answer) {
			t.Errorf("client first %v: %d bytes of the answer (%v)", clientFirst, len(b), err)
		}
		_ = first.Close()
		wg.Wait()
	}
}

func TestServeHost(t *testing.T) {
	a := newAgent(t, give(nil))
	a.runs(t, `read line`)
	inside := ports(t, a.program)
	a.doc.Ports = []uint16{80}
	a.program.listen(80)
	ask := func(r link.Request) (net.Conn, link.Reply) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		go a.serveHost(r, theirs)
		var reply link.Reply
		if err := frame.Read(ours, link.MaxRequest, &reply); err != nil {
			t.Fatal(err)
		}
		return ours, reply
	}
	if _, r := ask(link.Request{Op: link.OpPort, Port: 81}); !strings.Contains(r.Error, "launch document") {
		t.Errorf("a port that is not listed: %+v", r)
	}
	if _, r := ask(link.Request{Op: link.OpImage}); r.Error == "" {
		t.Error("the host is given what it should give")
	}
	c, r := ask(link.Request{Op: link.OpPort, Port: 80})
	if r.Error != "" {
		t.Fatal(r.Error)
	}
	_, inner := accept(t, inside)
	go func() { _, _ = io.WriteString(c, "hello"); _ = c.Close() }()
	if b, err := io.ReadAll(inner); err != nil || string(b) != "hello" {
		t.Errorf("the program reads %q (%v)", b, err)
	}
	_ = inner.Close()
	if _, r := ask(link.Request{Op: link.OpStop}); r.Error != "" {
		t.Error(r.Error)
	}
	if err := a.waitProgram(); codeOf(err) != compute.CodeStoppedRequest {
		t.Errorf("asked to stop, it ended with %v", err)
	}
}

func TestWaitProgram(t *testing.T) {
	said := &failure{code: "disk", err: errors.New("no room")}
	for _, c := range []struct {
		name, script string
		prepare      func(*agent)
		code         string
		exit         int // as reported
	}{
		{"status 0", "exit 0", nil, "", 0},
		{"status 3", "exit 3", nil, "", 3},
		{"killed", "kill -9 $$", nil, compute.CodeProgramKilled, 0},
		{"ended by the agent", "read line", func(a *agent) { a.endProgram(&failure{code: "lease_refused", err: errors.New("x")}) }, "lease_refused", 0},
		{"the first reason counts", "read line", func(a *agent) {
			a.endProgram(&failure{code: "lease_refused", err: errors.New("x")})
			a.endProgram(&failure{code: "platform_lost", err: errors.New("x")})
		}, "lease_refused", 0},
		{"gave its reason", "exit 1", func(a *agent) { a.said = said }, "disk", 0},
		{"gave a reason and ended well", "exit 0", func(a *agent) { a.said = said }, "", 0},
		{"output that cannot be sent", "exit 0", func(a *agent) {
			a.doc.Outputs = []string{"result"}
			write(t, a.paths.Work+"/out/result", "x")
		}, "agent", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, give(nil))
			ours, theirs := net.Pipe()
			a.events = ours
			reported := make(chan link.Event, 1)
			go func() {
				defer close(reported)
				var e link.Event
				if frame.Read(theirs, link.MaxEvent, &e) == nil {
					reported <- e
					_ = link.Accept(theirs, 0)
				}
			}()
			a.runs(t, c.script)
			if c.prepare != nil {
				c.prepare(a)
			}
			err := a.waitProgram()
			_ = ours.Close()
			e, ok := <-reported
			if codeOf(err) != c.code || ok != (c.code == "") || ok && (e.State != link.Exited || e.ExitCode != c.exit) {
				t.Errorf("got %v and %+v, want code %q, status %d", err, e, c.code, c.exit)
			}
		})
	}
}

func TestTimeLimit(t *testing.T) {
	a := newAgent(t, give(nil))
	a.doc.TimeLimit = 1
	a.runs(t, "read line")
	if e := failedEvent(a.waitProgram()); e.Code != "time_limit" || !strings.Contains(e.Hint, "time_limit_s") {
		t.Errorf("%+v", e)
	}
}
