package shim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module is the image of every instance here.
const module = "\x00asm image of the test"

// fakeDriver boots machines whose agent is the test itself.
type fakeDriver struct {
	boot   func(compute.Boot) error // before the machine exists
	code   string                   // what machines say of their end
	booted chan *fakeMachine
}

func (d *fakeDriver) Kind() tee.Kind                           { return tee.Software }
func (d *fakeDriver) Probe(context.Context) compute.Capability { return compute.Capability{} }
func (d *fakeDriver) Expect(compute.Spec) (compute.Expectation, error) {
	return compute.Expectation{}, nil
}

func (d *fakeDriver) Compare(_ compute.Expectation, ev tee.Evidence) []tee.Failure {
	if string(ev.Data) != "another boot" {
		return nil
	}
	return []tee.Failure{{Code: tee.CodeBinding, Claim: "PCR 9", Hint: "kernel command line"}}
}

func (d *fakeDriver) Boot(_ context.Context, b compute.Boot) (compute.Machine, error) {
	if d.boot != nil {
		if err := d.boot(b); err != nil {
			return nil, err
		}
	}
	host, inside := net.Pipe()
	m := &fakeMachine{host: host, inside: inside, done: make(chan struct{}), code: d.code}
	d.booted <- m
	return m, nil
}

// fakeMachine runs until the test ends it or the shim kills it.
type fakeMachine struct {
	host, inside net.Conn
	once         sync.Once
	done         chan struct{}
	code         string
	killed       bool // read it after done
}

func (m *fakeMachine) Channel() io.ReadWriteCloser { return m.host }
func (m *fakeMachine) Done() <-chan struct{}       { return m.done }
func (m *fakeMachine) Node() compute.Node {
	return compute.Node{Root: []byte("root"), Runtime: []byte("runtime")}
}
func (m *fakeMachine) Kill() { m.end(true) }

func (m *fakeMachine) end(killed bool) {
	m.once.Do(func() {
		m.killed = killed
		_ = m.inside.Close()
		close(m.done)
	})
}

func (m *fakeMachine) Postmortem() (code, message string) {
	if m.code == "" {
		return "", ""
	}
	return m.code, "the host says " + m.code
}

// running is a shim with its instance, seen from all sides.
type running struct {
	dir    compute.Dir
	driver *fakeDriver
	done   chan error // of Run
	stop   context.CancelFunc
}

// document is the launch document of every instance here.
func document() launch.Document {
	d := launch.New(launch.Wasm, []byte(module))
	d.Inputs, d.Outputs, d.OperatorEnv = []string{"data"}, []string{"result"}, []string{"NAME"}
	return d
}

// newDir makes an instance directory as a supervisor does.
func newDir(t testing.TB) compute.Dir {
	t.Helper()
	dir := compute.Dir(filepath.Join(t.TempDir(), "0123456789abcdef"))
	err := dir.Make()
	if err == nil {
		err = dir.WriteIntent(compute.Intent{
			ID: "0123456789abcdef", Name: "worker", Want: compute.WantRunning, Epoch: 7,
			Spec: compute.Spec{TEE: tee.Software, Launch: document(), Env: map[string]string{"NAME": "value"}},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs a shim; it ends with the test.
func start(t testing.TB, d *fakeDriver) *running {
	t.Helper()
	d.booted = make(chan *fakeMachine, 1)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{dir: newDir(t), driver: d, done: make(chan error, 1), stop: cancel}
	go func() {
		r.done <- Run(ctx, r.dir, func(tee.Kind) (compute.Driver, error) { return d, nil }, "", slog.New(slog.DiscardHandler))
		close(r.done)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// intent is what the shim was told.
func (r *running) intent() compute.Intent {
	i, _ := r.dir.ReadIntent()
	return i
}

// end waits for the shim's end and returns the status on disk.
func (r *running) end(t testing.TB) compute.Status {
	t.Helper()
	if err := <-r.done; err != nil {
		t.Errorf("the shim ended with %v", err)
	}
	return r.dir.ReadStatus()
}

// agent is the test in the role of the agent.
type agent struct {
	*link.Link
	t      testing.TB
	m      *fakeMachine
	events net.Conn
}

// agent connects to the host from inside; handle answers the host's requests.
func (r *running) agent(t testing.TB, handle func(link.Request, net.Conn)) *agent {
	t.Helper()
	m := <-r.driver.booted
	l, err := link.New(m.inside, false)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	if handle != nil {
		wg.Go(func() { l.Serve(handle) })
	}
	t.Cleanup(func() { m.end(false); _ = l.Close(); wg.Wait() })
	a := &agent{Link: l, t: t, m: m}
	a.events = a.open(link.Request{Op: link.OpEvents})
	return a
}

func (a *agent) open(r link.Request) net.Conn {
	a.t.Helper()
	c, _, err := a.Open(r)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// report sends an event and, for the last one, waits for the reply.
func (a *agent) report(e link.Event) {
	a.t.Helper()
	err := frame.Write(a.events, e)
	if err == nil && (e.State == link.Exited || e.State == link.Failed) {
		var reply link.Reply
		err = frame.Read(a.events, link.MaxRequest, &reply)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// watcher follows an instance as a supervisor does.
type watcher struct {
	seen chan compute.Status
	err  chan error
}

func watch(t testing.TB, dir compute.Dir) watcher {
	w := watcher{make(chan compute.Status, 100), make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			reached := false
			err := Watch(ctx, dir, func(s compute.Status) { reached = true; w.seen <- s })
			if reached || ctx.Err() != nil {
				w.err <- err
				return
			}
			time.Sleep(time.Millisecond) // between the shim's start and its socket
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until returns the first status that ok accepts.
func (w watcher) until(t testing.TB, what string, ok func(compute.Status) bool) compute.Status {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case s := <-w.seen:
			if ok(s) {
				return s
			}
		case <-deadline:
			t.Fatalf("never seen: %s", what)
		}
	}
}

func (w watcher) state(t testing.TB, want compute.State) compute.Status {
	t.Helper()
	return w.until(t, string(want), func(s compute.Status) bool { return s.State == want })
}

// refused wants the host to refuse a request of the instance.
func (a *agent) refused(r link.Request) {
	a.t.Helper()
	c, _, err := a.Open(r)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, link.ErrRefused) {
		a.t.Errorf("%s %q: %v, want a refusal", r.Op, r.Name, err)
	}
}
