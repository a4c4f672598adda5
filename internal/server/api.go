package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/shim"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// routes is the API of this host. It is served on a unix socket only.
func (h *Host) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				problem.Write(w, instanceProblem(err))
			}
		})
	}
	handle("GET /v1/platform", func(w http.ResponseWriter, _ *http.Request) error { return reply(w, h.info) })
	handle("GET /v1/instances", func(w http.ResponseWriter, _ *http.Request) error { return reply(w, h.supervisor.List()) })
	handle("POST /v1/instances", h.create)
	handle("GET /v1/instances/{name}", h.get)
	handle("POST /v1/instances/{name}/start", h.change((*compute.Supervisor).Start))
	handle("POST /v1/instances/{name}/stop", h.change((*compute.Supervisor).Stop))
	handle("DELETE /v1/instances/{name}", h.change((*compute.Supervisor).Delete))
	handle("GET /v1/instances/{name}/logs", h.logs)
	handle("GET /v1/instances/{name}/outputs/{output}", h.output)
	handle("GET /v1/instances/{name}/evidence", h.evidence)
	return mux
}

// instanceProblem gives the errors of package compute their status and code.
func instanceProblem(err error) error {
	if e, ok := errors.AsType[*tee.Error](err); ok && e.Code == compute.CodeNoDriver {
		return problem.New(http.StatusServiceUnavailable, compute.CodeNoDriver, e.Error(), e.Hint)
	}
	switch {
	case errors.Is(err, compute.ErrNotFound):
		return problem.New(http.StatusNotFound, "not_found", err.Error(), "list them: cloister instance list")
	case errors.Is(err, compute.ErrExists):
		return problem.New(http.StatusConflict, "exists", err.Error(), "")
	case errors.Is(err, compute.ErrState):
		return problem.New(http.StatusConflict, "state", err.Error(), "")
	case errors.Is(err, compute.ErrRefused):
		return problem.New(http.StatusBadRequest, "refused_at_admission", err.Error(), "")
	case errors.Is(err, os.ErrNotExist):
		return problem.New(http.StatusNotFound, "not_found", "the instance has no such file", "it may not have ended yet: cloister instance describe")
	case diskError(err):
		return problem.New(http.StatusInsufficientStorage, compute.CodeDisk, err.Error(), "free space in the data directory and try again")
	}
	return err
}

func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// maxCreate bounds the JSON part of a create request in bytes.
const maxCreate = 1 << 20

func (h *Host) create(w http.ResponseWriter, r *http.Request) error {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return problem.New(http.StatusUnsupportedMediaType, "content_type", "want multipart/form-data", "")
	}
	parts := &partQueue{r: multipart.NewReader(r.Body, params["boundary"])}
	b, err := io.ReadAll(io.LimitReader(parts.reader("create"), maxCreate))
	if err != nil {
		return problem.New(http.StatusBadRequest, "bad_request", "the body does not start with the part \"create\"", "")
	}
	var req client.CreateRequest
	if err := json.Unmarshal(b, &req); err != nil {
		return problem.New(http.StatusBadRequest, "bad_request", "the part \"create\" is not valid JSON", "")
	}
	c := compute.Create{Name: req.Name, Spec: req.Spec, Start: req.Start, Inputs: map[string]io.Reader{}}
	var last *partReader
	if req.Spec.Launch.Image.Kind != launch.Builtin {
		last = parts.reader("image")
		c.Image = last
	}
	for _, name := range req.Spec.Launch.Inputs {
		last = parts.reader("input:" + name)
		c.Inputs[name] = last
	}
	if last != nil {
		last.last = true
	} else if err := parts.end(); err != nil {
		return err
	}
	i, err := h.supervisor.Create(r.Context(), c)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	return reply(w, i)
}

// partQueue hands out the parts of a multipart body in the order in which they
// are read, so that nothing is stored twice.
type partQueue struct{ r *multipart.Reader }

func (q *partQueue) reader(name string) *partReader { return &partReader{queue: q, name: name} }

// end refuses a body that goes on: what nobody asked for was meant for something.
func (q *partQueue) end() error {
	switch _, err := q.r.NextPart(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("%w: the body ends too early", compute.ErrRefused)
	default:
		return fmt.Errorf("%w: the body has a part that the launch document does not list", compute.ErrRefused)
	}
}

type partReader struct {
	queue *partQueue
	name  string
	part  *multipart.Part
	last  bool // the body must end behind this part
}

func (p *partReader) Read(b []byte) (int, error) {
	if p.part == nil {
		part, err := p.queue.r.NextPart()
		if err != nil {
			return 0, fmt.Errorf("%w: the body has no part %q", compute.ErrRefused, p.name)
		}
		if part.FormName() != p.name {
			return 0, fmt.Errorf("%w: the body's next part is not %q", compute.ErrRefused, p.name)
		}
		p.part = part
	}
	n, err := p.part.Read(b)
	switch {
	case errors.Is(err, io.EOF) && p.last:
		p.last = false
		if err := p.queue.end(); err != nil {
			return n, err
		}
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: the body ends within the part %q", compute.ErrRefused, p.name)
	}
	return n, err
}

// maxWait bounds a long poll.
const maxWait = time.Minute

// get answers at once, or with ?wait=running, serving, final or gone when the
// instance is there, or after a minute with what it is then.
func (h *Host) get(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	until := r.URL.Query().Get("wait")
	if until == "" {
		i, err := h.supervisor.Get(name)
		if err != nil {
			return err
		}
		return reply(w, i)
	}
	if !slices.Contains([]string{"running", "serving", "final", "gone"}, until) {
		return problem.New(http.StatusBadRequest, "bad_request", "wait: want running, serving, final or gone", "")
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	if until == "serving" {
		i, err := h.waitServing(ctx, name)
		if err != nil {
			return err
		}
		return reply(w, i)
	}
	i, err := h.supervisor.Wait(ctx, name, func(i compute.Instance) bool {
		switch until {
		case "gone":
			return false
		case "running":
			return i.Status.State == compute.Running || i.Status.State.Final()
		default:
			return i.Status.State.Final()
		}
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return reply(w, i)
}

// waitServing waits until an instance runs and accepts connections to all its
// ports, or has ended, or ctx ends.
func (h *Host) waitServing(ctx context.Context, name string) (compute.Instance, error) {
	for {
		i, err := h.supervisor.Wait(ctx, name, func(i compute.Instance) bool {
			return i.Status.State == compute.Running || i.Status.State.Final()
		})
		if errors.Is(err, context.DeadlineExceeded) || err == nil && i.Status.State.Final() {
			return i, nil
		}
		if err != nil {
			return i, err
		}
		if h.accepts(name, i.Spec.Launch.Ports) {
			return i, nil
		}
		select {
		case <-ctx.Done():
			return i, nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// accepts reports whether the program listens on all the ports.
func (h *Host) accepts(name string, ports []uint16) bool {
	dir, err := h.supervisor.Dir(name)
	if err != nil {
		return false
	}
	for _, port := range ports {
		c, err := shim.Dial(dir, port)
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}

func (h *Host) change(f func(*compute.Supervisor, string) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := f(h.supervisor, r.PathValue("name")); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

func (h *Host) output(w http.ResponseWriter, r *http.Request) error {
	i, err := h.supervisor.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	dir, err := h.supervisor.Dir(i.Name)
	if err != nil {
		return err
	}
	output := r.PathValue("output")
	if !slices.Contains(i.Spec.Launch.Outputs, output) { // nor "..", which is a directory
		return problem.New(http.StatusNotFound, "not_found", "the launch document lists no such output", "list them: cloister instance describe")
	}
	f, err := os.Open(dir.Output(output))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = io.Copy(w, f)
	return err
}

func (h *Host) evidence(w http.ResponseWriter, r *http.Request) error {
	dir, err := h.supervisor.Dir(r.PathValue("name"))
	if err != nil {
		return err
	}
	nonce, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("nonce"))
	if err != nil || len(nonce) < 16 || len(nonce) > 64 {
		return problem.New(http.StatusBadRequest, "bad_request", "nonce: want 16 to 64 bytes, base64url", "")
	}
	ev, err := shim.Evidence(r.Context(), dir, nonce)
	if err != nil {
		return problem.New(http.StatusServiceUnavailable, "not_running", "the instance gives no evidence now", "is it running? cloister instance describe")
	}
	return reply(w, ev)
}
