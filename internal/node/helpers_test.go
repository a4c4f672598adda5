package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/keystest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent answers the node as the agent of its instance does; package enclavetest
// refuses raw evidence, which only the platform's own roles get.
type agent struct {
	in   *software.Instance
	fail atomic.Pointer[tee.Error] // of every further step of a counter
}

func (a *agent) answer(r call.Request) call.Answer {
	return call.Result(a.handle(context.Background(), r))
}

func (a *agent) handle(ctx context.Context, r call.Request) (call.Answer, error) {
	switch r.Op {
	case call.Self:
		i := a.in.Info()
		return call.Answer{Identity: &call.Identity{
			TEE: tee.Software, Simulated: true, Measurement: i.Measurement, LaunchDigest: i.LaunchDigest[:], InstanceID: i.InstanceID,
			RuntimeDigest: i.RuntimeDigest[:], Root: i.RootCertificate,
		}}, nil
	case call.EvidenceRaw:
		ev, err := a.in.Evidence(ctx, [64]byte(r.Data))
		return call.Answer{Evidence: &ev}, err
	case call.CounterAdvance:
		if e := a.fail.Load(); e != nil {
			return call.Answer{}, e
		}
		return call.FromTEE(ctx, a.in, r)
	default:
		return call.FromTEE(ctx, a.in, r)
	}
}

// enter launches the node on a platform; doc is its launch document.
func enter(t testing.TB, p *softwaretest.Platform, doc launch.Document) (*enclave.Enclave, *agent) {
	t.Helper()
	var image []byte
	if doc.Image.Kind != launch.Builtin {
		image = []byte("image")
	}
	a := &agent{in: p.Instance(t, doc, image, nil)}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); call.Serve(theirs, a.answer); _ = theirs.Close() }()
	t.Cleanup(func() {
		_ = ours.Close()
		<-done
		if err := a.in.Close(); err != nil {
			t.Error(err)
		}
	})
	e, err := enclave.OpenConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	return e, a
}

// world is a running node, its platform, and clients of it.
type world struct {
	t        testing.TB
	platform *softwaretest.Platform
	agent    *agent
	service  *service
	address  string
	end      context.CancelCauseFunc
	ended    chan error // of serve
	stop     func()
}

// newWorld runs a node whose keys are in a log in memory, so that a test can
// make that log fail.
func newWorld(t testing.TB) (*world, *keystest.Log) {
	t.Helper()
	log := &keystest.Log{}
	w := run(t, func(s *service) {
		s.keys = keys.New(s.keysConfig())
		if err := log.Open(s.keys); err != nil {
			t.Fatal(err)
		}
	})
	return w, log
}

// run runs a node on a platform of its own.
func run(t testing.TB, change func(*service)) *world {
	t.Helper()
	return runIn(t, t.TempDir(), change)
}

// runIn is run with a state directory.
func runIn(t testing.TB, state string, change func(*service)) *world {
	t.Helper()
	w := &world{t: t, platform: softwaretest.New(t), ended: make(chan error, 1)}
	var e *enclave.Enclave
	e, w.agent = enter(t, w.platform, launch.NewBuiltin(launch.RoleNode))
	t.Setenv(call.EnvState, state)
	var ctx context.Context
	ctx, w.end = context.WithCancelCause(context.Background())
	var err error
	if w.service, err = open(ctx, e, w.end, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(w.service)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	go func() { w.ended <- w.service.serve(ctx, l, slog.New(slog.DiscardHandler)); close(w.ended) }()
	w.stop = sync.OnceFunc(func() {
		w.end(nil)
		<-w.ended
		w.service.close()
	})
	t.Cleanup(w.stop)
	return w
}

// identity makes a key owner.
func identity(t testing.TB) *tls.Certificate {
	t.Helper()
	c, err := client.LoadIdentity(filepath.Join(t.TempDir(), "identity.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// client returns a client for a key owner, nil for nobody.
func (w *world) client(id *tls.Certificate) *client.Node {
	w.t.Helper()
	n, err := client.NewNode(client.NodeConfig{Address: w.address, Identity: id, Roots: w.platform.Roots, Policy: attest.Development()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(n.Close)
	return n
}

// caller sends requests that the client would never send.
type caller struct {
	w    *world
	http *http.Client
}

func (w *world) caller(id *tls.Certificate) caller {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.address)
		if err != nil {
			return nil, err
		}
		return channel.Client(ctx, c, id, channel.Config{SkipPeerEvidenceInsecure: true})
	}
	transport := &http.Transport{DialTLSContext: dial}
	w.t.Cleanup(transport.CloseIdleConnections)
	return caller{w, &http.Client{Transport: transport}}
}

// do sends a request and returns the answer, which must be JSON that no cache
// keeps.
func (c caller) do(method, path string, body []byte) (status int, answer []byte) {
	c.w.t.Helper()
	req, err := http.NewRequestWithContext(c.w.t.Context(), method, "https://node"+path, bytes.NewReader(body))
	if err != nil {
		c.w.t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.w.t.Fatal(err)
	}
	want := "application/json"
	if resp.StatusCode >= 400 {
		want = problem.ContentType
	}
	if got := resp.Header.Get("Content-Type"); got != want || resp.Header.Get("Cache-Control") != "no-store" {
		c.w.t.Errorf("%s %s: %d, content type %q, cache control %q", method, path, resp.StatusCode, got, resp.Header.Get("Cache-Control"))
	}
	return resp.StatusCode, b
}

// refused wants a problem.
func (c caller) refused(method, path string, body []byte, status int, code string) problem.Problem {
	c.w.t.Helper()
	got, b := c.do(method, path, body)
	var p problem.Problem
	if err := json.Unmarshal(b, &p); err != nil || got != status || p.Code != code || p.Status != status {
		c.w.t.Errorf("%s %s: %d %s, want %d %s", method, path, got, b, status, code)
	}
	return p
}

// wantCode wants an error of a client to be a problem of the node.
func wantCode(t testing.TB, err error, status int, code string) *problem.Problem {
	t.Helper()
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || p.Status != status || p.Code != code {
		t.Errorf("got %v (%+v), want %d %s", err, p, status, code)
		return &problem.Problem{}
	}
	return p
}

// policy is a release policy that accepts this platform's instances, changed.
func policy(t testing.TB, change func(*keys.Policy)) json.RawMessage {
	t.Helper()
	p := keys.Policy{Appraisal: attest.Development(), LeaseSeconds: 60}
	if change != nil {
		change(&p)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// workload is an instance that wants keys.
func (w *world) workload() *software.Instance {
	w.t.Helper()
	image := []byte("module")
	in := w.platform.Instance(w.t, launch.New(launch.Wasm, image), image, nil)
	w.t.Cleanup(func() { _ = in.Close() })
	return in
}

// ask is a release request of a workload with fresh evidence.
func (w *world) ask(in *software.Instance, names ...string) (keys.ReleaseRequest, []byte) {
	w.t.Helper()
	nonce, err := w.client(nil).Nonce(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	recipient, private, err := keys.NewRecipient()
	if err != nil {
		w.t.Fatal(err)
	}
	info := in.Info()
	ev, err := in.Evidence(w.t.Context(), keys.ReleaseBinding(nonce, recipient.PublicKey(), info.LaunchDigest[:], info.InstanceID))
	if err != nil {
		w.t.Fatal(err)
	}
	return keys.ReleaseRequest{Nonce: nonce, Evidence: ev, PublicKey: recipient.PublicKey(), Keys: names}, private
}
