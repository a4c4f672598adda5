package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/shim"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee"
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
	handle("POST /v1/portal/login", h.portalLogin)
	handle("GET /v1/usage", h.usage)
	handle("GET /v1/instances", func(w http.ResponseWriter, _ *http.Request) error { return reply(w, h.supervisor.List()) })
	handle("POST /v1/instances", h.create)
	handle("GET /v1/instances/{name}", h.get)
	handle("PUT /v1/instances/{name}", h.update)
	handle("POST /v1/instances/{name}/start", h.change((*compute.Supervisor).Start))
	handle("POST /v1/instances/{name}/stop", h.change((*compute.Supervisor).Stop))
	handle("DELETE /v1/instances/{name}", h.change((*compute.Supervisor).Delete))
	handle("GET /v1/instances/{name}/logs", h.logs)
	handle("GET /v1/instances/{name}/outputs/{output}", h.output)
	handle("GET /v1/instances/{name}/evidence", h.evidence)
	handle("GET /v1/instances/{name}/ports/{port}", h.port)
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
	case errors.Is(err, compute.ErrQuota):
		return problem.New(http.StatusForbidden, "quota", err.Error(), "")
	case errors.Is(err, compute.ErrLineage):
		return problem.New(http.StatusForbidden, "lineage", err.Error(), "sign it as a later version (cloister enclave sign), or give up what it keeps: --discard-state")
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

func (h *Host) create(w http.ResponseWriter, r *http.Request) error {
	_, c, err := launchOf(r)
	if err != nil {
		return err
	}
	i, err := h.supervisor.Create(r.Context(), c)
	h.tellCreated()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	return reply(w, i)
}

// update replaces what an instance runs.
func (h *Host) update(w http.ResponseWriter, r *http.Request) error {
	req, c, err := launchOf(r)
	if err != nil {
		return err
	}
	if c.Image == nil {
		return problem.New(http.StatusBadRequest, "bad_request", "a built-in image has no versions", "")
	}
	i, err := h.supervisor.Update(r.Context(), r.PathValue("name"), compute.Update{Spec: c.Spec, Image: c.Image, Inputs: c.Inputs, DiscardState: req.DiscardState})
	if err != nil {
		return err
	}
	return reply(w, i)
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
