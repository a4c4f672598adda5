package server

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
)

// poll starts a long poll on a real connection and returns a channel of its
// answer, once the server has the request.
func poll(t *testing.T, h *Host, path string) <-chan compute.Instance {
	t.Helper()
	arrived := make(chan struct{})
	var once atomic.Bool
	routes := h.routes()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if once.CompareAndSwap(false, true) {
			close(arrived)
		}
		routes.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	out := make(chan compute.Instance, 1)
	go func() {
		defer close(out)
		resp, err := s.Client().Get(s.URL + path)
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		var i compute.Instance
		if resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&i) == nil {
			out <- i
		}
	}()
	<-arrived
	return out
}

func TestWait(t *testing.T) {
	cases := []struct {
		until string
		then  []compute.State
		want  compute.State
	}{
		{"running", []compute.State{compute.Running}, compute.Running},
		{"running", []compute.State{compute.Failed}, compute.Failed}, // it never runs
		{"final", []compute.State{compute.Running, compute.Stopping, compute.Stopped}, compute.Stopped},
		{"final", []compute.State{compute.Failed}, compute.Failed},
		{"serving", []compute.State{compute.Running}, compute.Running}, // no ports: nothing else to wait for
		{"serving", []compute.State{compute.Failed}, compute.Failed},
	}
	for _, c := range cases {
		t.Run(c.until+" "+string(c.want), func(t *testing.T) {
			h, shims := newHost(t)
			shims.first = compute.Attesting
			dir := create(t, h, "worker", spec(), true)
			reach(t, h, "worker", compute.Attesting)
			got := poll(t, h, "/v1/instances/worker?wait="+c.until)
			select {
			case i := <-got:
				t.Fatalf("answered before anything happened: %s", i.Status.State)
			default:
			}
			for _, state := range c.then {
				shims.set(dir, state, "")
			}
			if i, ok := <-got; !ok || i.Status.State != c.want {
				t.Errorf("answered %v with %s, want %s", ok, i.Status.State, c.want)
			}
		})
	}
}

func TestWaitGone(t *testing.T) {
	h, _ := newHost(t)
	create(t, h, "worker", spec(), true)
	reach(t, h, "worker", compute.Running)
	got := poll(t, h, "/v1/instances/worker?wait=gone")
	if err := h.supervisor.Delete("worker"); err != nil {
		t.Fatal(err)
	}
	if i, ok := <-got; ok {
		t.Errorf("a deleted instance is %s, want 404", i.Status.State)
	}
}

// An instance serves when every port of its launch document accepts.
func TestWaitServing(t *testing.T) {
	h, shims := newHost(t)
	sp := spec()
	sp.Launch.Ports = []uint16{80, 443}
	dir := create(t, h, "worker", sp, true)
	reach(t, h, "worker", compute.Running)
	var asked [65536]atomic.Int64
	control(t, dir, func(r link.Request, c net.Conn) {
		// The second port is there only when it was asked for twice.
		if n := asked[r.Port].Add(1); r.Op != link.OpPort || r.Port == 443 && n < 3 {
			link.Refuse(c, "not yet")
			return
		}
		_ = link.Accept(c, 0)
	})
	i, ok := <-poll(t, h, "/v1/instances/worker?wait=serving")
	if !ok || i.Status.State != compute.Running || asked[443].Load() != 3 || asked[80].Load() != 3 {
		t.Errorf("answered %v with %s after %d and %d questions", ok, i.Status.State, asked[80].Load(), asked[443].Load())
	}
	shims.set(dir, compute.Failed, "")
	reach(t, h, "worker", compute.Failed)
	if i, ok := <-poll(t, h, "/v1/instances/worker?wait=serving"); !ok || i.Status.State != compute.Failed {
		t.Errorf("answered %v with %s", ok, i.Status.State)
	}
}

// A long poll ends after a minute with what the instance is then; the bubble's
// clock makes that minute short.
func TestWaitEnds(t *testing.T) {
	for _, until := range []string{"running", "final", "serving", "gone"} {
		t.Run(until, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, shims := newHost(t)
				shims.first = compute.Attesting
				create(t, h, "worker", spec(), true)
				reach(t, h, "worker", compute.Attesting)
				w := do(t, h, http.MethodGet, "/v1/instances/worker?wait="+until, "", nil)
				var i compute.Instance
				if err := json.Unmarshal(w.Body.Bytes(), &i); w.Code != http.StatusOK || err != nil || i.Status.State != compute.Attesting {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		})
	}
}

// A program that runs and never listens does not keep its waiter for ever.
func TestWaitServingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHost(t)
		sp := spec()
		sp.Launch.Ports = []uint16{80}
		create(t, h, "worker", sp, true) // no socket: nobody accepts
		w := do(t, h, http.MethodGet, "/v1/instances/worker?wait=serving", "", nil)
		var i compute.Instance
		if err := json.Unmarshal(w.Body.Bytes(), &i); w.Code != http.StatusOK || err != nil || i.Status.State != compute.Running {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
