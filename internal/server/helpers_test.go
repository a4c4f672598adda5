package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeDriver measures launches and boots none: shims are faked below it.
type fakeDriver struct{}

func (fakeDriver) Kind() tee.Kind                           { return tee.Software }
func (fakeDriver) Probe(context.Context) compute.Capability { return compute.Capability{} }
func (fakeDriver) Expect(s compute.Spec) (compute.Expectation, error) {
	digest, err := s.Launch.Digest()
	return compute.Expectation{Measurement: digest[:]}, err
}
func (fakeDriver) Compare(compute.Expectation, tee.Evidence) []tee.Failure { return nil }
func (fakeDriver) Boot(context.Context, compute.Boot) (compute.Machine, error) {
	return nil, errors.New("not here")
}

// fakeShims plays the processes that own instances: each holds the lock of its
// directory and reports the states that the test gives it.
type fakeShims struct {
	first compute.State // of a shim that has just started

	mu   sync.Mutex
	live map[compute.Dir]*fakeShim
}

type fakeShim struct {
	status  compute.Status
	lock    *os.File
	changes chan compute.Status
	gone    chan struct{}
}

func (f *fakeShims) Start(dir compute.Dir) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	lock, err := compute.Lock(dir.Lock())
	if err != nil {
		return nil // another shim has it: a real one leaves quietly
	}
	intent, err := dir.ReadIntent()
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	s := &fakeShim{lock: lock, changes: make(chan compute.Status, 16), gone: make(chan struct{})}
	s.status = compute.Status{State: f.first, Epoch: intent.Epoch, StartedAt: time.Now()}
	f.live[dir] = s
	return dir.WriteStatus(s.status)
}

// set moves an instance to a state; a final one ends its shim.
func (f *fakeShims) set(dir compute.Dir, state compute.State, code string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.live[dir]
	if s == nil {
		return
	}
	s.status.State, s.status.Code = state, code
	_ = dir.WriteStatus(s.status)
	s.changes <- s.status
	if state.Final() {
		delete(f.live, dir)
		_ = s.lock.Close()
		close(s.gone)
	}
}

func (f *fakeShims) Watch(ctx context.Context, dir compute.Dir, changed func(compute.Status)) error {
	f.mu.Lock()
	s := f.live[dir]
	if s == nil {
		f.mu.Unlock()
		return errors.New("no shim")
	}
	now := s.status
	f.mu.Unlock()
	changed(now)
	for {
		select {
		case st := <-s.changes:
			changed(st)
		case <-s.gone:
			return io.EOF
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeShims) Stop(_ context.Context, dir compute.Dir) error {
	f.set(dir, compute.Stopped, compute.CodeStoppedRequest)
	return nil
}

func (f *fakeShims) Kill(ctx context.Context, dir compute.Dir) error { return f.Stop(ctx, dir) }

// release ends what still runs, so that nothing outlives the test.
func (f *fakeShims) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.live {
		_ = s.lock.Close()
	}
}

// newHost is a host with a real supervisor on fake shims.
func newHost(t testing.TB) (*Host, *fakeShims) {
	t.Helper()
	shims := &fakeShims{first: compute.Running, live: map[compute.Dir]*fakeShim{}}
	h := &Host{paths: datadir.Paths{Data: t.TempDir()}, logger: slog.New(slog.DiscardHandler), info: client.Platform{Address: "127.0.0.1:7443", Simulated: true}}
	var err error
	if h.supervisor, err = compute.Open(context.Background(), h.paths.Instances(), shims, nil, fakeDriver{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.supervisor.Detach(); shims.release() })
	return h, shims
}

// module is the image of every instance here.
const module = "\x00asm image of the test"

func spec() compute.Spec {
	d := launch.New(launch.Wasm, []byte(module))
	d.Inputs, d.Outputs = []string{"data", "more"}, []string{"result"}
	return compute.Spec{TEE: tee.Software, Launch: d}
}

// part is one part of a create request.
type part struct{ name, content string }

// parts is a well-formed create request.
func parts(name string, sp compute.Spec, start bool) []part {
	b, err := json.Marshal(client.CreateRequest{Name: name, Spec: sp, Start: start})
	if err != nil {
		panic(err) // fixed types only
	}
	return []part{{"create", string(b)}, {"image", module}, {"input:data", "first"}, {"input:more", "second"}}
}

// form encodes parts as clients do.
func form(ps []part) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range ps {
		f, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + p.name + `"`}})
		if err == nil {
			_, err = io.WriteString(f, p.content)
		}
		if err != nil {
			panic(err) // a buffer takes everything
		}
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

// do asks the host's API and returns the whole answer.
func do(t testing.TB, h *Host, method, path, contentType string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.routes().ServeHTTP(w, r)
	return w
}

// create makes an instance and returns its directory.
func create(t testing.TB, h *Host, name string, sp compute.Spec, start bool) compute.Dir {
	t.Helper()
	body, contentType := form(parts(name, sp, start))
	if w := do(t, h, http.MethodPost, "/v1/instances", contentType, body); w.Code != http.StatusCreated {
		t.Fatalf("create: %d %s", w.Code, w.Body)
	}
	dir, err := h.supervisor.Dir(name)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// reach waits until an instance is in a state.
func reach(t testing.TB, h *Host, name string, state compute.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	i, err := h.supervisor.Wait(ctx, name, func(i compute.Instance) bool { return i.Status.State == state })
	if err != nil {
		t.Fatalf("%s is %s, want %s: %v", name, i.Status.State, state, err)
	}
}

// control answers on a shim's socket.
func control(t testing.TB, dir compute.Dir, handle func(link.Request, net.Conn)) {
	t.Helper()
	l, err := unixsock.Listen(dir.Socket())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				var r link.Request
				if frame.Read(c, link.MaxRequest, &r) == nil {
					handle(r, c)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
}
