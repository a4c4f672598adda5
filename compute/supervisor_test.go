package compute_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/compute"
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
	return compute.Expectation{Measurement: digest[:], Registers: map[string]string{"0": "00"}, Size: compute.Size{MemoryMiB: 100}}, err
}
func (fakeDriver) Compare(compute.Expectation, tee.Evidence) []tee.Failure { return nil }
func (fakeDriver) Boot(context.Context, compute.Boot) (compute.Machine, error) {
	return nil, errors.New("not here")
}

// fakeShims plays the processes that own instances: each holds the lock of its
// directory and reports a status, as real ones do.
type fakeShims struct {
	mu     sync.Mutex
	live   map[compute.Dir]*fakeShim
	starts map[compute.Dir]int
	// die makes shims end this way right after they started.
	die *compute.Status
	// deaf is how many requests to stop are refused first, as by a shim that has
	// its lock and not yet its socket.
	deaf int
}

type fakeShim struct {
	status  compute.Status
	lock    *os.File
	changes chan compute.Status
	gone    chan struct{}
}

func newFakeShims() *fakeShims {
	return &fakeShims{live: map[compute.Dir]*fakeShim{}, starts: map[compute.Dir]int{}}
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
	f.starts[dir]++
	s := &fakeShim{lock: lock, changes: make(chan compute.Status, 1), gone: make(chan struct{})}
	s.status = compute.Status{State: compute.Running, Epoch: intent.Epoch, StartedAt: time.Now()}
	f.live[dir] = s
	if f.die != nil {
		final := *f.die
		final.Epoch = intent.Epoch
		f.end(dir, final)
		return nil
	}
	return dir.WriteStatus(s.status)
}

// end finishes a shim with its last status; the caller holds the lock.
func (f *fakeShims) end(dir compute.Dir, final compute.Status) {
	s := f.live[dir]
	if s == nil {
		return
	}
	delete(f.live, dir)
	_ = dir.WriteStatus(final)
	s.changes <- final
	_ = s.lock.Close()
	close(s.gone)
}

// vanish kills a shim without a word, as kill -9 does.
func (f *fakeShims) vanish(dir compute.Dir) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.live[dir]
	delete(f.live, dir)
	_ = s.lock.Close()
	close(s.gone)
}

func (f *fakeShims) Watch(ctx context.Context, dir compute.Dir, changed func(compute.Status)) error {
	f.mu.Lock()
	s := f.live[dir]
	f.mu.Unlock()
	if s == nil {
		return errors.New("no shim")
	}
	changed(s.status)
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
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf > 0 {
		f.deaf--
		return errors.New("nobody listens yet")
	}
	if s := f.live[dir]; s != nil {
		f.end(dir, compute.Status{State: compute.Stopped, Code: compute.CodeStoppedRequest, Epoch: s.status.Epoch})
	}
	return nil
}

func (f *fakeShims) Kill(ctx context.Context, dir compute.Dir) error { return f.Stop(ctx, dir) }

func (f *fakeShims) started(dir compute.Dir) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts[dir]
}

func open(t *testing.T, dir string, shims compute.Shims) *compute.Supervisor {
	t.Helper()
	s, err := compute.Open(t.Context(), dir, shims, nil, fakeDriver{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Detach)
	return s
}

func spec() compute.Spec {
	d := launch.New(launch.Wasm, []byte("module"))
	d.Inputs = []string{"data"}
	return compute.Spec{TEE: tee.Software, Launch: d}
}

func create(t *testing.T, s *compute.Supervisor, name string, sp compute.Spec, start bool) compute.Instance {
	t.Helper()
	i, err := s.Create(t.Context(), compute.Create{
		Name: name, Spec: sp, Image: strings.NewReader("module"), Inputs: map[string]io.Reader{"data": strings.NewReader("input")}, Start: start,
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// waitFor waits until the instance is in one of the states.
func waitFor(t *testing.T, s *compute.Supervisor, name string, states ...compute.State) compute.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	i, err := s.Wait(ctx, name, func(i compute.Instance) bool { return slices.Contains(states, i.Status.State) })
	if err != nil {
		t.Fatalf("%s is %s, want %v: %v", name, i.Status.State, states, err)
	}
	return i
}

func TestLifeCycle(t *testing.T) {
	dir, shims := t.TempDir(), newFakeShims()
	s := open(t, dir, shims)
	made := create(t, s, "worker", spec(), true)
	if len(made.Expected) == 0 {
		t.Error("the expected measurement is not known before the start")
	}
	i := waitFor(t, s, "worker", compute.Running)
	d, err := s.Dir("worker")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(d.Input("data")); err != nil || string(b) != "input" {
		t.Errorf("input %q (%v)", b, err)
	}
	if err := s.Stop("worker"); err != nil {
		t.Fatal(err)
	}
	if got := waitFor(t, s, "worker", compute.Stopped); got.Status.Code != compute.CodeStoppedRequest {
		t.Errorf("stopped with code %q", got.Status.Code)
	}
	if err := s.Start("worker"); err != nil {
		t.Fatal(err)
	}
	if again := waitFor(t, s, "worker", compute.Running); again.Status.Epoch <= i.Status.Epoch {
		t.Errorf("epoch %d after epoch %d", again.Status.Epoch, i.Status.Epoch)
	}
	if err := s.Delete("worker"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(t.Context(), "worker", func(compute.Instance) bool { return false }); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
	if _, err := os.Stat(string(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a deleted instance is there: %v", err)
	}
}

func TestSupervisorAdoptsWhatRuns(t *testing.T) {
	dir, shims := t.TempDir(), newFakeShims()
	s := open(t, dir, shims)
	create(t, s, "worker", spec(), true)
	waitFor(t, s, "worker", compute.Running)
	d, _ := s.Dir("worker")
	s.Detach() // as a crash, but for the processes of this test

	again := open(t, dir, shims)
	waitFor(t, again, "worker", compute.Running)
	if n := shims.started(d); n != 1 {
		t.Errorf("started %d times: an adopted instance must not run twice", n)
	}
}

func TestSupervisorStartsWhatShouldRun(t *testing.T) {
	dir, shims := t.TempDir(), newFakeShims()
	s := open(t, dir, shims)
	sp := spec()
	sp.Restart = compute.RestartOnFailure
	create(t, s, "always", sp, true)
	create(t, s, "once", spec(), true)
	waitFor(t, s, "always", compute.Running)
	waitFor(t, s, "once", compute.Running)
	s.Shutdown(t.Context()) // the machine goes down in good order

	again := open(t, dir, shims)
	waitFor(t, again, "always", compute.Running)
	if i := waitFor(t, again, "once", compute.Stopped); i.Status.State != compute.Stopped {
		t.Errorf("an instance that is never restarted is %s", i.Status.State)
	}
}

func TestHalfMadeInstanceIsRemoved(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, "0123456789abcdef")
	if err := compute.Dir(half).Make(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, newFakeShims())
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory without an intent is left: %v", err)
	}
}

func TestDamagedIntentIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	damaged := compute.Dir(filepath.Join(dir, "0123456789abcdef"))
	if err := damaged.Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(damaged), "intent.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, newFakeShims())
	if len(s.List()) != 0 {
		t.Error("an instance without a readable intent is listed")
	}
	if _, err := os.Stat(string(damaged)); err != nil {
		t.Errorf("its directory, with its sealed state, was removed: %v", err)
	}
}

func TestShimThatVanishesIsAFailure(t *testing.T) {
	dir, shims := t.TempDir(), newFakeShims()
	s := open(t, dir, shims)
	create(t, s, "worker", spec(), true)
	waitFor(t, s, "worker", compute.Running)
	d, _ := s.Dir("worker")
	shims.vanish(d)
	if i := waitFor(t, s, "worker", compute.Failed); i.Status.Code != compute.CodeShimLost {
		t.Errorf("code %q, want %q", i.Status.Code, compute.CodeShimLost)
	}
	if shims.started(d) != 1 {
		t.Error("it was started again, though its policy is never")
	}
}

func TestOwnerThatIsJustStartingIsAskedAgain(t *testing.T) {
	for name, end := range map[string]func(*compute.Supervisor) error{
		"stop": func(s *compute.Supervisor) error { return s.Stop("worker") }, "delete": func(s *compute.Supervisor) error { return s.Delete("worker") },
	} {
		t.Run(name, func(t *testing.T) {
			shims := newFakeShims()
			s := open(t, t.TempDir(), shims)
			create(t, s, "worker", spec(), true)
			waitFor(t, s, "worker", compute.Running)
			shims.mu.Lock()
			shims.deaf = 3
			shims.mu.Unlock()
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := s.Wait(ctx, "worker", func(i compute.Instance) bool { return i.Status.State == compute.Stopped && name == "stop" })
			if err != nil && !errors.Is(err, compute.ErrNotFound) {
				t.Errorf("it is not ended: %v", err)
			}
		})
	}
}

func TestRestartPolicies(t *testing.T) {
	failed := &compute.Status{State: compute.Failed, Code: "x", StartedAt: time.Now()}
	ended := &compute.Status{State: compute.Stopped, StartedAt: time.Now()}
	cases := []struct {
		name    string
		policy  compute.Restart
		end     *compute.Status
		restart bool
	}{
		{"never, failed", compute.RestartNever, failed, false},
		{"zero, failed", "", failed, false},
		{"on failure, failed", compute.RestartOnFailure, failed, true},
		{"on failure, ended well", compute.RestartOnFailure, ended, false},
		{"always, ended well", compute.RestartAlways, ended, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			shims := newFakeShims()
			shims.die = c.end
			s := open(t, t.TempDir(), shims)
			sp := spec()
			sp.Restart = c.policy
			create(t, s, "worker", sp, true)
			waitFor(t, s, "worker", compute.Failed, compute.Stopped)
			d, _ := s.Dir("worker")
			if !c.restart {
				if shims.started(d) != 1 {
					t.Error("restarted")
				}
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := s.Wait(ctx, "worker", func(i compute.Instance) bool { return i.Status.Epoch > 1 }); err != nil {
				t.Errorf("not restarted: %v", err)
			}
		})
	}
}

func TestAdmissionRefuses(t *testing.T) {
	s := open(t, t.TempDir(), newFakeShims())
	create(t, s, "taken", spec(), false)
	node := spec()
	node.Launch = launch.NewBuiltin(launch.RoleNode)
	invalid, noInput, foreignEnv, otherTEE, restart, signed := spec(), spec(), spec(), spec(), spec(), spec()
	invalid.Launch.MemoryMiB = 0
	noInput.Launch.Inputs = []string{"other"}
	foreignEnv.Env = map[string]string{"PATH": "/bin"}
	otherTEE.TEE = tee.SNP
	restart.Restart = "sometimes"
	signed.Signature = []byte("x")
	cases := []struct {
		name     string
		instance string
		spec     compute.Spec
		want     error
		text     string
	}{
		{"bad name", "UPPER", spec(), compute.ErrRefused, "lower-case"},
		{"taken", "taken", spec(), compute.ErrExists, ""},
		{"node's name", "node", spec(), compute.ErrRefused, "for the node"},
		{"node's role", "worker", node, compute.ErrRefused, "for the node"},
		{"no driver", "worker", otherTEE, compute.ErrRefused, "sev-snp"},
		{"invalid launch", "worker", invalid, compute.ErrRefused, "memory_mib"},
		{"missing input", "worker", noInput, compute.ErrRefused, "other"},
		{"environment not left to the operator", "worker", foreignEnv, compute.ErrRefused, "PATH"},
		{"restart", "worker", restart, compute.ErrRefused, "sometimes"},
		{"signature of an unsigned launch", "worker", signed, compute.ErrRefused, "signature"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Create(t.Context(), compute.Create{
				Name: c.instance, Spec: c.spec, Image: strings.NewReader("module"), Inputs: map[string]io.Reader{"data": strings.NewReader("x")},
			})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
	if n := len(s.List()); n != 1 {
		t.Errorf("%d instances, want the one that was there", n)
	}
}

// brokenReader is a client that goes away half way.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestCreateThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFakeShims())
	_, err := s.Create(t.Context(), compute.Create{Name: "worker", Spec: spec(), Image: brokenReader{}, Inputs: map[string]io.Reader{"data": strings.NewReader("x")}, Start: true})
	if err == nil {
		t.Fatal("created without an image")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	create(t, s, "worker", spec(), false) // the name is free again
}

func TestTwoCreatesOfOneName(t *testing.T) {
	s := open(t, t.TempDir(), newFakeShims())
	results := make(chan error, 20)
	var wg sync.WaitGroup
	for range cap(results) {
		wg.Go(func() {
			_, err := s.Create(t.Context(), compute.Create{
				Name: "worker", Spec: spec(), Image: strings.NewReader("module"), Inputs: map[string]io.Reader{"data": strings.NewReader("x")}, Start: true,
			})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, compute.ErrExists):
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d creates won, want 1", won)
	}
}

func TestUnknownInstance(t *testing.T) {
	s := open(t, t.TempDir(), newFakeShims())
	_, getErr := s.Get("nobody")
	_, dirErr := s.Dir("nobody")
	for name, err := range map[string]error{"get": getErr, "dir": dirErr, "start": s.Start("nobody"), "stop": s.Stop("nobody"), "delete": s.Delete("nobody")} {
		if !errors.Is(err, compute.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Delete(compute.NodeName); !errors.Is(err, compute.ErrState) {
		t.Errorf("delete the node: %v", err)
	}
}
