package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// answer decodes a success.
func answer[T any](t *testing.T, h *Host, method, path string, want int) T {
	t.Helper()
	w := do(t, h, method, path, "", nil)
	var v T
	if w.Code != want || w.Header().Get("Content-Type") != "application/json" || json.Unmarshal(w.Body.Bytes(), &v) != nil {
		t.Fatalf("%s %s: %d %s %s, want %d and JSON", method, path, w.Code, w.Header().Get("Content-Type"), w.Body, want)
	}
	return v
}

func TestRoutes(t *testing.T) {
	h, shims := newHost(t)
	if got := answer[client.Platform](t, h, http.MethodGet, "/v1/platform", 200); got.Address != h.info.Address || !got.Simulated {
		t.Errorf("platform %+v", got)
	}
	if got := answer[[]compute.Instance](t, h, http.MethodGet, "/v1/instances", 200); len(got) != 0 {
		t.Errorf("instances before any was made: %v", got)
	}
	body, contentType := form(parts("worker", spec(), true))
	w := do(t, h, http.MethodPost, "/v1/instances", contentType, body)
	var made compute.Instance
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != http.StatusCreated || made.Name != "worker" || len(made.Expected) == 0 {
		t.Fatalf("create: %d %+v %v", w.Code, made, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("a new instance is sent as %q", got)
	}
	dir, err := h.supervisor.Dir("worker")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir.Image(made.Spec.Launch.Image.Digest): module, dir.Input("data"): "first", dir.Input("more"): "second"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q (%v), want %q", path, b, err, want)
		}
	}
	reach(t, h, "worker", compute.Running)
	if got := answer[compute.Instance](t, h, http.MethodGet, "/v1/instances/worker", 200); got.ID != made.ID || got.Status.State != compute.Running {
		t.Errorf("instance %+v", got)
	}
	if got := answer[[]compute.Instance](t, h, http.MethodGet, "/v1/instances", 200); len(got) != 1 {
		t.Errorf("%d instances, want 1", len(got))
	}

	change := func(method, path string, then compute.State) {
		t.Helper()
		if w := do(t, h, method, path, "", nil); w.Code != http.StatusAccepted || w.Body.Len() != 0 {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		if then != "" {
			reach(t, h, "worker", then)
		}
	}
	change(http.MethodPost, "/v1/instances/worker/stop", compute.Stopped)
	change(http.MethodPost, "/v1/instances/worker/start", compute.Running)
	shims.set(dir, compute.Failed, compute.CodeProgramStatus)
	reach(t, h, "worker", compute.Failed)
	change(http.MethodDelete, "/v1/instances/worker", "")
	if w := do(t, h, http.MethodGet, "/v1/instances/worker?wait=gone", "", nil); w.Code != http.StatusNotFound {
		t.Errorf("after delete: %d", w.Code)
	}
	if _, err := os.Stat(string(dir)); !os.IsNotExist(err) {
		t.Errorf("the directory of a deleted instance is there: %v", err)
	}
}

func TestBuiltinNeedsNoImage(t *testing.T) {
	h, _ := newHost(t)
	node := parts(compute.NodeName, compute.Spec{TEE: tee.Software, Launch: launch.NewBuiltin(launch.RoleNode)}, false)
	body, contentType := form(node[:2])
	wantProblem(t, "an image for a built-in one", do(t, h, http.MethodPost, "/v1/instances", contentType, body), 400, "refused_at_admission")
	nothingLeft(t, h)
	body, contentType = form(node[:1])
	if w := do(t, h, http.MethodPost, "/v1/instances", contentType, body); w.Code != http.StatusCreated {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestEvidence(t *testing.T) {
	h, _ := newHost(t)
	dir := create(t, h, "worker", spec(), true)
	nonce := strings.Repeat("n", 32)
	path := "/v1/instances/worker/evidence?nonce=" + base64.RawURLEncoding.EncodeToString([]byte(nonce))
	w := do(t, h, http.MethodGet, path, "", nil) // no shim answers yet
	wantProblem(t, "no shim", w, http.StatusServiceUnavailable, "not_running")

	control(t, dir, func(r link.Request, c net.Conn) {
		if r.Op != link.OpEvidence || link.Accept(c, 0) != nil {
			return
		}
		_ = frame.Write(c, tee.Evidence{Kind: tee.Software, Data: r.Data})
	})
	if ev := answer[tee.Evidence](t, h, http.MethodGet, path, 200); string(ev.Data) != nonce {
		t.Errorf("evidence %+v, want it over the caller's nonce", ev)
	}
}

func TestOutputs(t *testing.T) {
	h, _ := newHost(t)
	dir := create(t, h, "worker", spec(), false)
	wantProblem(t, "not written yet", do(t, h, http.MethodGet, "/v1/instances/worker/outputs/result", "", nil), 404, "not_found")
	const canary = "CANARY of another file"
	for path, content := range map[string]string{dir.Output("result"): "out", dir.Output("unlisted"): canary, dir.Input("data"): canary, dir.Log(): canary} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := do(t, h, http.MethodGet, "/v1/instances/worker/outputs/result", "", nil)
	if w.Code != 200 || w.Body.String() != "out" || w.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	for _, name := range []string{
		"unlisted", "..", "%2e%2e", "%2e", ".%2e", "%2f", "..%2fintent.json", "..%2fconsole.log", "..%2fin%2fdata", "%2fetc%2fpasswd", "result%2f..%2f..%2fconsole.log", "result%00", "RESULT",
	} {
		w := do(t, h, http.MethodGet, "/v1/instances/worker/outputs/"+name, "", nil)
		if w.Code < 300 || w.Code >= 500 || strings.Contains(w.Body.String(), "CANARY") || strings.Contains(w.Body.String(), "root:") {
			t.Errorf("output %s: %d %s, want it refused", name, w.Code, w.Body)
		}
	}
}

// wantProblem wants a problem document with everything that style asks of one.
func wantProblem(t *testing.T, what string, w interface {
	Result() *http.Response
}, status int, code string,
) *problem.Problem {
	t.Helper()
	r := w.Result()
	defer func() { _ = r.Body.Close() }()
	p := problem.Read(r)
	if r.StatusCode != status || p.Code != code || r.Header.Get("Content-Type") != problem.ContentType || p.Type != problem.TypePrefix+code {
		t.Errorf("%s: %d %s %+v, want %d %s as a problem", what, r.StatusCode, r.Header.Get("Content-Type"), p, status, code)
	}
	return p
}

func TestMisuse(t *testing.T) {
	h, _ := newHost(t)
	create(t, h, "worker", spec(), false)
	const sent = "CANARY0123456789"
	long := base64.RawURLEncoding.EncodeToString(make([]byte, 65))
	cases := []struct {
		name, method, path string
		status             int
		code               string
		hint               string
	}{
		{"get unknown", "GET", "/v1/instances/" + sent, 404, "not_found", "instance list"},
		{"wait for unknown", "GET", "/v1/instances/" + sent + "?wait=final", 404, "not_found", "instance list"},
		{"wait for unknown to serve", "GET", "/v1/instances/" + sent + "?wait=serving", 404, "not_found", "instance list"},
		{"start unknown", "POST", "/v1/instances/" + sent + "/start", 404, "not_found", "instance list"},
		{"stop unknown", "POST", "/v1/instances/" + sent + "/stop", 404, "not_found", "instance list"},
		{"delete unknown", "DELETE", "/v1/instances/" + sent, 404, "not_found", "instance list"},
		{"logs of unknown", "GET", "/v1/instances/" + sent + "/logs", 404, "not_found", "instance list"},
		{"output of unknown", "GET", "/v1/instances/" + sent + "/outputs/result", 404, "not_found", "instance list"},
		{"evidence of unknown", "GET", "/v1/instances/" + sent + "/evidence?nonce=AAAAAAAAAAAAAAAAAAAAAA", 404, "not_found", "instance list"},
		{"unknown output", "GET", "/v1/instances/worker/outputs/" + sent, 404, "not_found", "describe"},
		{"unknown wait", "GET", "/v1/instances/worker?wait=" + sent, 400, "bad_request", ""},
		{"delete the node", "DELETE", "/v1/instances/node", 409, "state", ""},
		{"no nonce", "GET", "/v1/instances/worker/evidence", 400, "bad_request", ""},
		{"short nonce", "GET", "/v1/instances/worker/evidence?nonce=AAAA", 400, "bad_request", ""},
		{"long nonce", "GET", "/v1/instances/worker/evidence?nonce=" + long, 400, "bad_request", ""},
		{"nonce in another alphabet", "GET", "/v1/instances/worker/evidence?nonce=" + sent + "%2B%2F%2B%2F%2B%2F", 400, "bad_request", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := do(t, h, c.method, c.path, "", nil)
			if strings.Contains(w.Body.String(), "CANARY") {
				t.Errorf("the answer repeats the request: %s", w.Body)
			}
			if p := wantProblem(t, c.name, w, c.status, c.code); !strings.Contains(p.Hint, c.hint) {
				t.Errorf("hint %q, want one with %q", p.Hint, c.hint)
			}
		})
	}
	for _, path := range []string{"/", "/v2/instances", "/v1/instances/worker/other"} { // not ours: the mux answers
		if w := do(t, h, http.MethodGet, path, "", nil); w.Code != 404 {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	if w := do(t, h, http.MethodPatch, "/v1/instances/worker", "", nil); w.Code != 405 {
		t.Errorf("PATCH of an instance: %d", w.Code)
	}
}

// Errors that no request provokes at will.
func TestErrorsOfTheHost(t *testing.T) {
	cases := []struct {
		err    error
		status int
		code   string
		hint   string
	}{
		{fmt.Errorf("store image: %w", syscall.ENOSPC), 507, "disk", "free space"},
		{fmt.Errorf("store image: %w", syscall.EROFS), 507, "disk", "free space"},
		{fmt.Errorf("store image: %w", syscall.EDQUOT), 507, "disk", "free space"},
		{fmt.Errorf("open: %w", os.ErrNotExist), 404, "not_found", "describe"},
		{fmt.Errorf("%w: being deleted", compute.ErrState), 409, "state", ""},
		{fmt.Errorf("/root/secret/path is odd"), 500, "internal", "log"},
	}
	for _, c := range cases {
		p := problem.From(instanceProblem(c.err))
		if p.Status != c.status || p.Code != c.code || !strings.Contains(p.Hint, c.hint) || strings.Contains(p.Detail, "/root") {
			t.Errorf("%v: %+v, want %d %s with a hint of %q", c.err, p, c.status, c.code, c.hint)
		}
	}
}
