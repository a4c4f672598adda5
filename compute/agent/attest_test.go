package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// An agent believes the node of its own release and platform, and nobody else.
func TestAppraiseNode(t *testing.T) {
	image := []byte("image")
	workload, node := launch.New(launch.Wasm, image), launch.NewBuiltin(launch.RoleNode)
	p, other := softwaretest.New(t), softwaretest.New(t)
	a := newAgent(t, give(nil))
	a.onTEE(t, p, workload, image)
	debug, ports := node, node
	debug.Debug = true
	ports.Ports = []uint16{8443}
	bound := [64]byte{1}
	cases := []struct {
		name     string
		platform *softwaretest.Platform
		doc      launch.Document
		image    []byte
		change   func(*nodeClient)
		want     error
	}{
		{"a node", p, node, nil, nil, nil},
		{"a node with other limits", p, ports, nil, nil, nil},
		{"a node with debug", p, debug, nil, nil, attest.ErrRefused},
		{"a workload", p, workload, image, nil, attest.ErrRefused},
		{"a node of another release", p, node, nil, func(c *nodeClient) { c.agent.trust.Runtime = bytes.Repeat([]byte{1}, 32) }, attest.ErrRefused},
		{"a node of another platform", other, node, nil, nil, tee.ErrNotVerified},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ev, err := c.platform.Instance(t, c.doc, c.image, nil).Evidence(t.Context(), bound)
			if err != nil {
				t.Fatal(err)
			}
			n := &nodeClient{agent: &agent{trust: a.trust}}
			n.agent.node = n.agent.prepareNode
			if c.change != nil {
				c.change(n)
			}
			if _, err := n.appraiseNode(ev, bound); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := n.appraiseNode(ev, [64]byte{2}); !errors.Is(err, tee.ErrNotVerified) {
				t.Errorf("bound to something else: %v", err)
			}
		})
	}
	n := &nodeClient{agent: &agent{}}
	n.agent.node = n.agent.prepareNode
	if _, err := n.appraiseNode(tee.Evidence{}, bound); err == nil {
		t.Error("without a root something is believed")
	}
}

func TestWhatIsFinal(t *testing.T) {
	failures := []tee.Failure{{Code: "measurement"}}
	refusedByPolicy := &problem.Problem{Status: 403, Code: "refused", Title: "t", Hint: "h", Failures: failures}
	for _, c := range []struct {
		name  string
		err   error
		final bool
		code  string
	}{
		{"policy", refusedByPolicy, true, "refused"},
		{"no such key", fmt.Errorf("call: %w", &problem.Problem{Status: 404, Code: "not_found"}), true, "not_found"},
		{"nonce that came too late", &problem.Problem{Status: 403, Code: "nonce"}, false, "nonce"},
		{"full disk", &problem.Problem{Status: 507, Code: "disk"}, false, "disk"},
		{"node that starts", &problem.Problem{Status: 503, Code: "unavailable"}, false, "unavailable"},
		{"stranger", tee.Refuse(tee.Software, tee.CodeChain, "c", "w", "g", "h"), true, "node_refused"},
		{"another build", &attest.AppraisalError{Failures: failures}, true, "node_refused"},
		{"no connection", io.ErrUnexpectedEOF, false, "node_unavailable"},
	} {
		if got := refusal(c.err); got != c.final {
			t.Errorf("%s: final %v, want %v", c.name, got, c.final)
		}
		if e := failedEvent(asFailure(c.err)); e.Code != c.code || e.Message == "" {
			t.Errorf("%s: reported as %+v, want code %s", c.name, e, c.code)
		}
	}
	if f := asFailure(&failure{code: "own"}); f.code != "own" || !refusal(f) {
		t.Errorf("the agent's own reason became %+v", f)
	}
	if e := failedEvent(asFailure(refusedByPolicy)); e.Hint != "h" || len(e.Failures) != 1 {
		t.Errorf("the node's reasons are lost: %+v", e)
	}
}

// roundTripper is a node without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering is a node that answers every call with err, a problem or another
// error; calls counts them.
func answering(err error, calls *int) *http.Client {
	return &http.Client{Timeout: callTimeout, Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		*calls++
		if p, ok := errors.AsType[*problem.Problem](err); ok {
			w := httptest.NewRecorder()
			problem.Write(w, p)
			return w.Result(), nil
		}
		return nil, err
	})}
}

func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		waits bool
		code  string
	}{
		{"refused", problem.New(403, "refused", "", ""), false, "refused"},
		{"nonce", problem.New(403, "nonce", "", ""), true, "nonce"},
		{"node that starts", problem.New(503, "unavailable", "", ""), true, "unavailable"},
		{"no node", syscall.ECONNREFUSED, true, "node_unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, begin := 0, time.Now()
				_, err := (&nodeClient{agent: &agent{tee: softwareTEE{}}, http: answering(c.err, &calls)}).patiently()
				waited := time.Since(begin)
				if codeOf(err) != c.code || (waited >= nodePatience) != c.waits || (calls > 1) != c.waits {
					t.Errorf("%v after %d calls and %s", err, calls, waited)
				}
			})
		})
	}
}

// sleeper is a program that is there to be ended.
func sleeper(t *testing.T) *program {
	t.Helper()
	p := newProgram()
	p.cmd = exec.Command("/bin/cat")
	in, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return p
}

// A lease that is not renewed ends the program; one that cannot be renewed now
// is tried until it runs out.
func TestRenew(t *testing.T) {
	const lease = 60
	refused := problem.New(403, "refused", "", "")
	refused.Failures = []tee.Failure{{Code: "measurement"}}
	for _, c := range []struct {
		name     string
		err      error
		code     string
		earliest time.Duration
		latest   time.Duration
	}{
		{"refused", refused, "lease_refused", lease / 2 * time.Second, lease / 2 * time.Second},
		{"no node", syscall.ECONNREFUSED, "lease_expired", (lease - 1) * time.Second, lease * time.Second},
		{"node that starts", problem.New(503, "unavailable", "", ""), "lease_expired", (lease - 1) * time.Second, lease * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := sleeper(t)
			synctest.Test(t, func(t *testing.T) {
				calls, begin := 0, time.Now()
				a := &agent{tee: softwareTEE{}, program: p, ended: make(chan struct{})}
				(&nodeClient{agent: a, http: answering(c.err, &calls)}).renew(keys.ReleaseResponse{LeaseSeconds: lease})
				if held := time.Since(begin); held < c.earliest || held > c.latest || a.end == nil || a.end.code != c.code {
					t.Errorf("%+v after %s, want %s between %s and %s", a.end, held, c.code, c.earliest, c.latest)
				}
				if c.code == "lease_refused" && len(a.end.failures) != 1 {
					t.Error("the policy's reasons are lost")
				}
			})
			exit, ok := errors.AsType[*exec.ExitError](p.cmd.Wait())
			if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("the program lives on with its secrets: %v", exit)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // an instance that has ended renews nothing
		calls, begin := 0, time.Now()
		a := &agent{tee: softwareTEE{}, ended: make(chan struct{})}
		close(a.ended)
		(&nodeClient{agent: a, http: answering(refused, &calls)}).renew(keys.ReleaseResponse{LeaseSeconds: lease})
		if calls != 0 || time.Since(begin) != 0 || a.end != nil {
			t.Errorf("%d calls, ended for %+v", calls, a.end)
		}
	})
}
