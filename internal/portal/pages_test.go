package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Every page of an instance is made in every state, and of an instance that has
// everything.
func TestEveryStateOnEveryPage(t *testing.T) {
	states := append(order(), "", "of a later release")
	for _, state := range states {
		t.Run(string(state), func(t *testing.T) {
			plain, full := worker(state), everything(state)
			l := newLab(t, plain, full)
			l.portal.journal.changed(plain)
			l.portal.journal.changed(full)
			for _, path := range []string{"/", "/instances", createPath} {
				l.page(path)
			}
			for _, name := range []string{plain.Name, full.Name} {
				for _, tab := range []string{"", "/evidence", "/host", "/logs", "/launch", "/events", "/do/start", "/do/stop", "/do/delete"} {
					l.page("/instances/" + name + tab)
				}
			}
			wants(t, l.page("/instances/worker"), stateOf(state).Means)
		})
	}
}

// everything is an instance with every field that a page could show.
func everything(state compute.State) compute.Instance {
	i, code := worker(state), 3
	i.Name, i.ID = "full", "fedcba9876543210"
	d := &i.Spec.Launch
	d.Args, d.Env, d.OperatorEnv = []string{"--year", "two words"}, map[string]string{"A": "b"}, []string{"REGION"}
	d.Inputs, d.Outputs, d.Ports = []string{"records"}, []string{"result"}, []uint16{8443, 9000}
	d.Secrets = []launch.Secret{{Name: "data-key", Key: "hospital-a/records"}}
	d.TimeLimit, d.Debug, d.Logs = 60, true, launch.LogsStderr
	d.Signer, d.Product, d.SVN = make([]byte, 32), 1, 2
	i.Spec.Env, i.Spec.Restart, i.Spec.Size = map[string]string{"REGION": "value-of-the-operator"}, compute.RestartAlways, compute.Size{VCPUs: 2, MemoryMiB: 512}
	i.ExpectedRegisters = map[string]string{"0": "00ff", "9": "99ff"}
	i.Status = compute.Status{
		State: state, Since: time.Now().Add(-time.Hour), Epoch: 3, Code: "refused", Message: "the node refused", Hint: "look at the policy", ExitCode: &code,
		Failures:    []tee.Failure{{Code: "debug", Claim: "debug", Want: "false", Got: "true", Hint: "start it without debug"}},
		Differences: []tee.Failure{{Code: "measurement", Claim: "PCR 9", Want: "99ff", Got: "0000", Hint: "another kernel"}},
		StartedAt:   time.Now().Add(-time.Hour), ReadyAt: time.Now().Add(-time.Hour + time.Second), Lease: time.Now().Add(time.Hour),
		Token: "header.secretive-payload.signature", Evidence: &tee.Evidence{Kind: tee.Software, Data: []byte("not evidence")},
	}
	return i
}

func TestStatePage(t *testing.T) {
	l := newLab(t, everything(compute.Failed))
	html := l.page("/instances/full")
	wants(t, html, "the node refused", "look at the policy", "start it without debug", "wanted", "PCR 9", "another kernel", "Exit status 3", "/do/start", "/do/delete")
	for _, never := range []string{"secretive-payload", "value-of-the-operator"} {
		if strings.Contains(html, never) || strings.Contains(l.page("/instances/full/launch")+l.page("/instances/full/host"), never) {
			t.Errorf("a page shows %q", never)
		}
	}
}

func TestOverview(t *testing.T) {
	failed := worker(compute.Failed)
	failed.Name, failed.ID = "other", "1"
	l := newLab(t, worker(compute.Running), failed)
	wants(t, l.page("/"), "1 running, 1 failed", "https://127.0.0.1:7443", "/data/root.pem", "Being tried now")
	l.run()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(l.page("/"), "a child ran") {
		if time.Now().After(deadline) {
			t.Fatal("what this machine offers never comes")
		}
		time.Sleep(5 * time.Millisecond)
	}
	wants(t, l.page("/"), "no device", "use another machine", "missing: landlock", "seccomp", "was found")
	if l.host.probes != 1 {
		t.Errorf("looking at the page tried the machine %d times, want once", l.host.probes)
	}
	if w := l.post("/proofs", nil); w.Code != http.StatusSeeOther {
		t.Errorf("trying again: %d", w.Code)
	}
}

func TestNoInstances(t *testing.T) {
	l := newLab(t)
	wants(t, l.page("/instances"), "There is no instance yet")
	wants(t, l.page("/"), "no instances", "none yet")
}

func TestLogs(t *testing.T) {
	i := worker(compute.Running)
	l := newLab(t, i)
	wants(t, l.page("/instances/worker/logs"), "printed nothing yet", `data-poll="2000"`)
	l.host.logs["worker"] = Log{Cut: true, Lines: []LogLine{{Time: time.Now(), Stream: "stderr", Text: "one\n"}, {Stream: "stdout", Text: "two"}}}
	wants(t, l.page("/instances/worker/logs"), "one</span>", "two</span>", "Older lines are left out", "log-err", "log-out")
	l.host.list[0].Spec.Launch.Logs, l.host.logs["worker"] = launch.LogsNone, Log{}
	wants(t, l.page("/instances/worker/logs"), "Nothing is let out")
}

func TestActions(t *testing.T) {
	node := worker(compute.Running)
	node.Name, node.ID = compute.NodeName, compute.NodeName
	l := newLab(t, worker(compute.Running), node)
	for _, verb := range []string{"start", "stop", "delete"} {
		wants(t, l.page("/instances/worker/do/"+verb), `<form method="post" action="/instances/worker/do/`+verb+`"`, "Cancel")
		if w := l.post("/instances/worker/do/"+verb, nil); w.Code != http.StatusSeeOther {
			t.Errorf("%s: %d", verb, w.Code)
		}
	}
	if got := fmt.Sprint(l.host.done); got != "[start worker stop worker delete worker]" {
		t.Errorf("done: %s", got)
	}
	wants(t, l.page("/instances/node/do/stop"), "no lease is renewed")
	for _, path := range []string{"/instances/node/do/delete", "/instances/worker/do/explode", "/instances/nobody/do/stop"} {
		if w := l.post(path, nil); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if len(l.host.done) != 3 {
		t.Errorf("done: %v", l.host.done)
	}
}

func TestProblems(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	for text, c := range map[string]struct {
		err    error
		status int
	}{
		"not possible in the instance": {fmt.Errorf("%w: it is being deleted", compute.ErrState), http.StatusConflict},
		"refused before anything":      {compute.ErrRefused, http.StatusBadRequest},
		"another --quota":              {compute.ErrQuota, http.StatusForbidden},
		"start one":                    {&tee.Error{Code: compute.CodeNoDriver, Op: "start it", Hint: "start one"}, http.StatusServiceUnavailable},
		"choose another":               {problem.New(http.StatusTeapot, "code", "detail", "choose another"), http.StatusTeapot},
		"something went wrong":         {errors.New("dial: token=hunter2"), http.StatusInternalServerError},
	} {
		l.host.err = c.err
		w := l.post("/instances/worker/do/stop", nil)
		if w.Code != c.status || !strings.Contains(w.Body.String(), text) || strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
		checkPage(t, text, w.Body.String())
	}
	if w := l.get("/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("no page: %d", w.Code)
	}
	if w := l.get("/instances/nobody"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "no such instance") {
		t.Errorf("no instance: %d", w.Code)
	}
}

func TestTheme(t *testing.T) {
	l := newLab(t)
	w := l.post("/theme", url.Values{"theme": {"dark"}, "back": {"/instances"}})
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/instances" {
		t.Fatalf("%d to %s", w.Code, w.Header().Get("Location"))
	}
	r := l.request(http.MethodGet, "/", "", nil)
	r.AddCookie(w.Result().Cookies()[0])
	wants(t, l.do(r).Body.String(), `data-theme="dark"`, `value="dark" aria-pressed="true"`)
	if w := l.post("/theme", url.Values{"theme": {"auto"}}); w.Result().Cookies()[0].MaxAge >= 0 {
		t.Error("the browser's own setting does not come back")
	}
	for _, back := range []string{"", "https://example.org", "//example.org", "/\\example.org", "javascript:1", "/a b", "/\x01"} {
		if w := l.post("/theme", url.Values{"theme": {"light"}, "back": {back}}); w.Header().Get("Location") != "/" {
			t.Errorf("back to %q leads to %q", back, w.Header().Get("Location"))
		}
	}
	r = l.request(http.MethodGet, "/", "", nil)
	r.AddCookie(&http.Cookie{Name: themeCookie, Value: "x-onload"})
	if strings.Contains(l.do(r).Body.String(), "x-onload") {
		t.Error("an unknown theme is shown")
	}
}

func TestAssets(t *testing.T) {
	l := newLab(t)
	l.session = ""
	for path, kind := range map[string]string{"/assets/portal.css": "text/css", "/assets/portal.js": "text/javascript", "/assets/icon.svg": "image/svg"} {
		if w := l.get(path); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
	}
}

// What an instance does reaches an open page, and a stream ends with its browser.
func TestLive(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	l.run()
	ctx, cancel := context.WithCancel(t.Context())
	r := l.request(http.MethodGet, "/live", "", nil).WithContext(ctx)
	w := &stream{got: make(chan string, 64)}
	done := make(chan struct{})
	go func() { l.handler.ServeHTTP(w, r); close(done) }()
	w.until(t, "retry:")
	i := worker(compute.Failed)
	i.Status.Code = "refused"
	l.portal.journal.changed(i)
	w.until(t, `data: {"id":"0123456789abcdef","text":"worker is failed: refused"}`)
	l.portal.journal.gone("worker")
	w.until(t, "worker is deleted")
	cancel()
	<-done
	for range maxStreams {
		l.portal.streaming <- struct{}{}
	}
	if w := l.get("/live"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("one stream too many: %d", w.Code)
	}
}

// stream is a response that somebody reads while it is written.
type stream struct {
	got    chan string
	header http.Header
	seen   strings.Builder
}

func (s *stream) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}
func (s *stream) WriteHeader(int) {}
func (s *stream) Flush()          {}
func (s *stream) Write(b []byte) (int, error) {
	s.got <- string(b)
	return len(b), nil
}

func (s *stream) until(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(s.seen.String(), text) {
		select {
		case b := <-s.got:
			s.seen.WriteString(b)
		case <-time.After(10 * time.Second):
			t.Fatalf("%q does not come: %s", text, s.seen.String())
		}
	}
}
