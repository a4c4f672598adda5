//go:build linux

package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// fakeHost serves routes on the socket of a data directory.
func fakeHost(t *testing.T, routes map[string]http.HandlerFunc) *client.Host {
	t.Helper()
	dir := t.TempDir()
	socket := datadir.Paths{Data: dir}.API()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := unixsock.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, f := range routes {
		mux.HandleFunc(pattern, f)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return client.NewHost(dir)
}

// instance answers with an instance in a state.
func instance(w http.ResponseWriter, state compute.State) {
	_ = json.NewEncoder(w).Encode(compute.Instance{Name: "worker", Status: compute.Status{State: state}})
}

func TestNoPlatform(t *testing.T) {
	dir := t.TempDir()
	h := client.NewHost(dir)
	_, platformErr := h.Platform(t.Context())
	_, waitErr := h.Wait(t.Context(), "worker", client.UntilFinal)
	_, createErr := h.Create(t.Context(), client.CreateRequest{}, strings.NewReader("image"), nil)
	_, logsErr := h.Logs(t.Context(), "worker", true)
	for name, err := range map[string]error{"platform": platformErr, "wait": waitErr, "create": createErr, "logs": logsErr, "delete": h.Delete(t.Context(), "worker")} {
		if !errors.Is(err, client.ErrNotRunning) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want ErrNotRunning and where", name, err)
		}
	}
	// A socket that a killed platform left behind is not a platform.
	socket := datadir.Paths{Data: dir}.API()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := unixsock.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := h.Instances(t.Context()); !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("dead socket: %v", err)
	}
}

func TestHostErrors(t *testing.T) {
	h := fakeHost(t, map[string]http.HandlerFunc{
		"GET /v1/instances/worker": func(w http.ResponseWriter, _ *http.Request) {
			problem.Write(w, &problem.Problem{Type: "t", Title: "x", Status: 409, Code: "state", Detail: "detail", Hint: "hint", Failures: []tee.Failure{{Code: "c"}}})
		},
		"GET /v1/instances": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
		"GET /v1/platform":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{\"address\":1}") },
		"GET /v1/instances/worker/evidence": func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(tee.Evidence{Kind: tee.Software, Data: []byte(r.URL.Query().Get("nonce"))})
		},
	})
	_, err := h.Instance(t.Context(), "worker")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != 409 || p.Code != "state" || p.Hint != "hint" || len(p.Failures) != 1 || err.Error() != "detail" {
		t.Errorf("a problem arrives as %+v", err)
	}
	_, err = h.Instances(t.Context())
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != 502 || p.Code != "http_status" {
		t.Errorf("another error arrives as %+v", err)
	}
	if p, err := h.Platform(t.Context()); err == nil {
		t.Errorf("another type of answer is %+v", p)
	}
	if ev, err := h.Evidence(t.Context(), "worker", []byte{0xff, 0xfe, 0xfd}); err != nil || string(ev.Data) != "__79" {
		t.Errorf("the nonce is sent as %q (%v), want base64url", ev.Data, err)
	}
}

// A host that never ends its answer does not fill this process.
func TestHostAnswersAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 64 MiB; not in -short")
	}
	endless := func(w http.ResponseWriter, head string, b byte) {
		_, err := io.WriteString(w, head)
		for chunk := bytes.Repeat([]byte{b}, 1<<20); err == nil; {
			_, err = w.Write(chunk)
		}
	}
	h := fakeHost(t, map[string]http.HandlerFunc{
		"GET /v1/platform": func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"address":"x"`, ' ') },
		"GET /v1/instances": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			endless(w, `{"code":"`, 'x')
		},
	})
	if _, err := h.Platform(t.Context()); err == nil {
		t.Error("an endless answer is one")
	}
	_, err := h.Instances(t.Context())
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Code != "http_status" || len(err.Error()) > 1000 {
		t.Errorf("an endless problem arrives as %.200v", err)
	}
}

// Long polls are asked again until the state is there.
func TestHostWait(t *testing.T) {
	cases := []struct {
		until client.Until
		given []compute.State
	}{
		{client.UntilRunning, []compute.State{compute.Pending, compute.Attesting, compute.Running}},
		{client.UntilRunning, []compute.State{compute.Pending, compute.Failed}},
		{client.UntilServing, []compute.State{compute.Attesting, compute.Running}},
		{client.UntilFinal, []compute.State{compute.Running, compute.Stopping, compute.Stopped}},
	}
	for _, c := range cases {
		t.Run(string(c.until)+" "+string(c.given[len(c.given)-1]), func(t *testing.T) {
			var n atomic.Int64
			h := fakeHost(t, map[string]http.HandlerFunc{"GET /v1/instances/worker": func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.Query().Get("wait"); got != string(c.until) {
					t.Errorf("asked to wait until %q", got)
				}
				instance(w, c.given[n.Add(1)-1])
			}})
			i, err := h.Wait(t.Context(), "worker", c.until)
			if want := c.given[len(c.given)-1]; err != nil || i.Status.State != want || n.Load() != int64(len(c.given)) {
				t.Errorf("%s after %d questions (%v), want %s after %d", i.Status.State, n.Load(), err, want, len(c.given))
			}
		})
	}
}

func TestHostDelete(t *testing.T) {
	var asked atomic.Int64
	gone := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 3 { // polls that ran out
			instance(w, compute.Stopping)
			return
		}
		problem.Write(w, problem.New(http.StatusNotFound, "not_found", "no such instance", ""))
	})
	accepted := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }
	h := fakeHost(t, map[string]http.HandlerFunc{
		"DELETE /v1/instances/worker": accepted, "GET /v1/instances/worker": gone,
		"DELETE /v1/instances/broken": accepted, "GET /v1/instances/broken": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", 500) },
		"POST /v1/instances/worker/start": accepted, "POST /v1/instances/worker/stop": accepted,
	})
	if err := h.Delete(t.Context(), "worker"); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	if err := h.Delete(t.Context(), "broken"); err == nil {
		t.Error("deleted, though nobody says so")
	}
	if err := errors.Join(h.Start(t.Context(), "worker"), h.Stop(t.Context(), "worker")); err != nil {
		t.Error(err)
	}
}

func TestHostCreate(t *testing.T) {
	var got []string
	h := fakeHost(t, map[string]http.HandlerFunc{"POST /v1/instances": func(w http.ResponseWriter, r *http.Request) {
		got = nil
		form, err := r.MultipartReader()
		for err == nil {
			part, partErr := form.NextPart()
			if partErr != nil {
				break
			}
			b, _ := io.ReadAll(part)
			got = append(got, part.FormName())
			if part.FormName() != "create" {
				got = append(got, string(b))
			}
		}
		w.WriteHeader(http.StatusCreated)
		instance(w, compute.Pending)
	}})
	req := client.CreateRequest{Name: "worker", Spec: compute.Spec{Launch: launch.New(launch.Wasm, []byte("module"))}}
	req.Spec.Launch.Inputs = []string{"b", "a"} // their order in the document, not the alphabet's
	inputs := map[string]io.Reader{"a": strings.NewReader("first"), "b": strings.NewReader("second")}
	if i, err := h.Create(t.Context(), req, strings.NewReader("module"), inputs); err != nil || i.Name != "worker" {
		t.Fatalf("%+v, %v", i, err)
	}
	if want := "create image module input:b second input:a first"; strings.Join(got, " ") != want {
		t.Errorf("parts %q, want %q", got, want)
	}
	delete(inputs, "a")
	if _, err := h.Create(t.Context(), req, strings.NewReader("module"), inputs); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("without an input: %v", err)
	}
}

func TestHostStreams(t *testing.T) {
	h := fakeHost(t, map[string]http.HandlerFunc{
		"GET /v1/instances/{name}/logs": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RawQuery) },
		"GET /v1/instances/{name}/outputs/{output}": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.PathValue("name")+" "+r.PathValue("output"))
		},
	})
	for want, open := range map[string]func() (io.ReadCloser, error){
		"": func() (io.ReadCloser, error) { return h.Logs(t.Context(), "worker", false) }, "follow=1": func() (io.ReadCloser, error) { return h.Logs(t.Context(), "worker", true) },
		"a/b ../x?y": func() (io.ReadCloser, error) { return h.Output(t.Context(), "a/b", "../x?y") },
	} {
		r, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != want {
			t.Errorf("got %q (%v), want %q", b, err, want)
		}
		_ = r.Close()
	}
	if r, err := h.Output(t.Context(), "worker", ""); err == nil {
		_ = r.Close()
		t.Error("an output without a name is one")
	}
}
