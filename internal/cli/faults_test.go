package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/tinywasm"
)

// victim names one process of a platform.
type victim string

const (
	supervisor  victim = "up"
	platform    victim = "platform"
	nodeShim    victim = "shim of the node"
	nodeAgent   victim = "agent of the node"
	nodeProgram victim = "program of the node"
	workShim    victim = "shim of the worker"
	workAgent   victim = "agent of the worker"
	workProgram victim = "program of the worker"
)

// moment is a point in a worker's life at which something is killed.
type moment string

const (
	creating  moment = "while it is created"
	attesting moment = "while it attests"
	running   moment = "while it runs"
	stopping  moment = "while it stops"
	starting  moment = "while it starts again"
	deleting  moment = "while it is deleted"
	granting  moment = "while a key is made"
)

// faultPoints are killed with SIGKILL, each in every round.
var faultPoints = []struct {
	who  victim
	when moment
}{
	{supervisor, creating}, {supervisor, attesting}, {supervisor, running}, {supervisor, stopping}, {supervisor, deleting}, {supervisor, granting},
	{platform, attesting}, {platform, running}, {platform, granting},
	{workShim, attesting}, {workShim, running}, {workShim, stopping}, {workShim, starting},
	{workAgent, attesting}, {workAgent, running}, {workProgram, running},
	{nodeShim, running}, {nodeShim, attesting}, {nodeAgent, granting}, {nodeProgram, running}, {nodeProgram, granting},
}

// faultRounds is how often each point is tried: one here, more with
// `make faults`.
func faultRounds() int {
	if n, err := strconv.Atoi(os.Getenv("CLOISTER_FAULT_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 1
}

// convergence bounds how long a platform may take to be whole again. It is a
// bound on correctness (no orphan after ten seconds), stretched for loaded
// machines, not a measurement.
const convergence = 30 * time.Second

// TestKillAnything kills each process at each point and wants, every time: no
// orphan, no double run, nothing lost, and the worker as it should be.
func TestKillAnything(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a minute; not in -short")
	}
	f := newFaultTest(t)
	for round := range faultRounds() {
		for n, p := range faultPoints {
			name := fmt.Sprintf("round %d: %s %s", round+1, p.who, p.when)
			if !t.Run(name, func(t *testing.T) { f.point(t, p.who, p.when, fmt.Sprintf("faults/r%d-%d", round, n)) }) {
				return // the next point would start from a broken platform
			}
		}
	}
}

type faultTest struct {
	exe, dir string
	up       *exec.Cmd
	upDone   chan struct{}
	host     *client.Host
	env      []string
	keys     []string // that were acknowledged
	idle     string
	hello    string
}

func newFaultTest(t *testing.T) *faultTest {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &faultTest{exe: exe, dir: filepath.Join(t.TempDir(), "data")}
	home := t.TempDir()
	f.env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "CLOISTER_DATA_DIR="+f.dir)
	f.host = client.NewHost(f.dir)
	f.idle, f.hello = filepath.Join(home, "idle.wasm"), filepath.Join(home, "hello.wasm")
	for path, module := range map[string][]byte{f.idle: tinywasm.Idle(), f.hello: tinywasm.Print("hello")} {
		if err := os.WriteFile(path, module, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	policy := "version: 1\nname: dev\naccept: [software]\nallow_simulated: true\nmeasurements: [any]\ntcb: [any]\n"
	if err := os.WriteFile(filepath.Join(home, "policy.yaml"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	f.start(t)
	t.Cleanup(func() {
		_ = f.up.Process.Signal(os.Interrupt)
		select {
		case <-f.upDone:
		case <-time.After(time.Minute):
			t.Error("the platform does not stop")
		}
		f.noProcesses(t)
		killAll(f.dir)
	})
	return f
}

// start runs `cloister up` and waits until it serves.
func (f *faultTest) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(f.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	f.up = f.command("up", "--listen", "127.0.0.1:0")
	f.up.Stdout, f.up.Stderr = log, log
	if err := f.up.Start(); err != nil {
		t.Fatal(err)
	}
	done, up := make(chan struct{}), f.up
	f.upDone = done
	go func() { _ = up.Wait(); close(done) }()
	f.eventually(t, "the platform comes up", func(ctx context.Context) error {
		_, err := f.host.Platform(ctx)
		return err
	})
}

func (f *faultTest) command(args ...string) *exec.Cmd {
	cmd := exec.Command(f.exe)
	cmd.Args = append([]string{"cloister"}, args...)
	cmd.Env = f.env
	cmd.Dir = filepath.Dir(f.hello)
	return cmd
}

func (f *faultTest) eventually(t *testing.T, what string, ok func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(convergence)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := ok(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(f.dir + ".log")
			t.Fatalf("%s: not within %s: %v\nlog of the platform:\n%s", what, convergence, err, tailOf(log))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func tailOf(b []byte) []byte {
	const most = 4000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return b
}

// point brings the worker to the moment, kills, and checks.
func (f *faultTest) point(t *testing.T, who victim, when moment, key string) {
	t.Helper()
	want := f.reach(t, when, func() { f.kill(t, who) }, key)
	if who == supervisor {
		<-f.upDone
		f.start(t)
	}
	f.settle(t, want)
	f.invariants(t)
	f.keysStand(t)
	f.remove(t)
}

// reach makes the worker, lets strike happen at the moment, and returns the state
// that the worker must then come to ("" for gone).
func (f *faultTest) reach(t *testing.T, when moment, strike func(), key string) compute.State {
	t.Helper()
	create := []string{"instance", "create", "--name", "worker", "--wait=false", f.idle}
	if when == creating {
		f.during(create, strike)
		return compute.Running
	}
	if out, err := f.command(create...).CombinedOutput(); err != nil {
		t.Fatalf("create: %v: %s", err, out)
	}
	if when == attesting {
		strike()
		return compute.Running
	}
	f.settle(t, compute.Running)
	switch when {
	case running:
		strike()
		return compute.Running
	case stopping:
		f.during([]string{"instance", "stop", "worker"}, strike)
		return compute.Stopped
	case starting:
		if out, err := f.command("instance", "stop", "worker").CombinedOutput(); err != nil {
			t.Fatalf("stop: %v: %s", err, out)
		}
		f.settle(t, compute.Stopped)
		f.during([]string{"instance", "start", "worker"}, strike)
		return compute.Running
	case deleting:
		f.during([]string{"instance", "delete", "worker"}, strike)
		return ""
	case granting:
		if f.during([]string{"key", "create", key, "--policy", "policy.yaml"}, strike) == nil {
			f.keys = append(f.keys, key)
		}
		return compute.Running
	default:
		t.Fatalf("no moment %q", when)
		return ""
	}
}

// during runs a command and strikes while it is under way.
func (f *faultTest) during(args []string, strike func()) error {
	cmd := f.command(args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(8 * time.Millisecond)
	strike()
	return cmd.Wait()
}

// settle waits for the worker's state, asking again for what a dead supervisor
// may never have heard: every request may be repeated.
func (f *faultTest) settle(t *testing.T, want compute.State) {
	t.Helper()
	f.eventually(t, fmt.Sprintf("the worker is %q", want), func(ctx context.Context) error {
		i, err := f.host.Instance(ctx, "worker")
		p, isProblem := errors.AsType[*client.Problem](err)
		missing := isProblem && p.Code == "not_found"
		switch {
		case missing && want == "":
			return nil
		case missing:
			_, err := f.command("instance", "create", "--name", "worker", "--wait=false", f.idle).CombinedOutput()
			return errors.Join(errors.New("created again"), err)
		case err != nil:
			return err
		case want == compute.Stopped && i.Status.State.Final():
			// Killed before it heard of the stop, it has failed, and says so; what
			// counts is that it stays down.
			time.Sleep(300 * time.Millisecond)
			if by, _ := f.tree(); len(by[workShim]) > 0 {
				return errors.New("it was stopped and started again")
			}
			return nil
		case i.Status.State == want:
			return nil
		case want == "":
			_ = f.host.Delete(ctx, "worker")
		case want == compute.Stopped:
			_ = f.host.Stop(ctx, "worker")
		case i.Status.State.Final():
			_ = f.host.Start(ctx, "worker")
		}
		return fmt.Errorf("it is %s (%s)", i.Status.State, i.Status.Code)
	})
}

func (f *faultTest) remove(t *testing.T) {
	t.Helper()
	f.settle(t, "")
}

// keysStand checks that every acknowledged key is there, and that the node still
// releases one.
func (f *faultTest) keysStand(t *testing.T) {
	t.Helper()
	f.eventually(t, "the node has its keys", func(context.Context) error {
		out, err := f.command("key", "list").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, k := range f.keys {
			if !strings.Contains(string(out), k+" ") {
				t.Fatalf("the key %s was acknowledged and is lost:\n%s", k, out)
			}
		}
		return nil
	})
	if len(f.keys) == 0 {
		return
	}
	f.eventually(t, "a key is released", func(context.Context) error {
		out, err := f.command("run", "--secret", "k="+f.keys[len(f.keys)-1], f.hello).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// process is one process of this test's platform.
type process struct {
	pid, parent int
	args        []string
}

// processes lists everything that runs this executable as part of a platform.
func (f *faultTest) processes() []process {
	var list []process
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, err := os.ReadFile(file)
		args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if err != nil || len(args) < 2 || args[0] != "cloister" {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(file), "stat"))
		if err != nil {
			continue
		}
		// pid (comm) state ppid, proc(5); comm may hold anything but ends at the
		// last parenthesis.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, _ := strconv.Atoi(fields[1])
		if fields[0] == "Z" {
			continue
		}
		list = append(list, process{pid, parent, args})
	}
	return list
}

// tree sorts processes by what they are: shims by directory, and the agents and
// programs below them.
func (f *faultTest) tree() (byVictim map[victim][]int, strays []process) {
	byVictim = map[victim][]int{}
	all := f.processes()
	owners := map[int]string{} // shim pid to instance directory, "" on another platform
	for _, p := range all {
		switch {
		case p.args[1] == "platform" && p.args[2] == f.dir:
			byVictim[platform] = append(byVictim[platform], p.pid)
		case p.args[1] == "shim" && strings.HasPrefix(p.args[2], f.dir):
			owners[p.pid] = p.args[2]
			v := pickVictim(p.args[2], nodeShim, workShim)
			byVictim[v] = append(byVictim[v], p.pid)
		case p.args[1] == "shim":
			owners[p.pid] = ""
		}
	}
	agents := map[int]string{}
	for _, p := range all {
		dir, owned := owners[p.parent]
		if p.args[1] != "agent" {
			continue
		}
		if !owned {
			strays = append(strays, p)
			continue
		}
		if agents[p.pid] = dir; dir != "" {
			v := pickVictim(dir, nodeAgent, workAgent)
			byVictim[v] = append(byVictim[v], p.pid)
		}
	}
	for _, p := range all {
		if p.args[1] != "program" {
			continue
		}
		switch dir, ok := agents[p.parent]; {
		case !ok:
			strays = append(strays, p)
		case dir != "":
			v := pickVictim(dir, nodeProgram, workProgram)
			byVictim[v] = append(byVictim[v], p.pid)
		}
	}
	return byVictim, strays
}

func pickVictim(dir string, node, worker victim) victim {
	if filepath.Base(dir) == compute.NodeName {
		return node
	}
	return worker
}

// kill strikes one process; one that is not there (yet) is waited for a moment.
func (f *faultTest) kill(t *testing.T, who victim) {
	t.Helper()
	if who == supervisor {
		_ = f.up.Process.Kill()
		return
	}
	for range 500 {
		by, _ := f.tree()
		if pids := by[who]; len(pids) > 0 {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("there is no %s to kill at this point", who)
}

// invariants: one of each, and nobody without a parent.
func (f *faultTest) invariants(t *testing.T) {
	t.Helper()
	f.eventually(t, "no orphan and no double", func(context.Context) error {
		by, strays := f.tree()
		for who, pids := range by {
			if len(pids) > 1 {
				return fmt.Errorf("%d processes are the %s: %v", len(pids), who, pids)
			}
		}
		if len(strays) > 0 {
			return fmt.Errorf("orphans: %v", strays)
		}
		if len(by[platform]) != 1 || len(by[nodeProgram]) != 1 {
			return errors.New("the platform or its node is not there")
		}
		return nil
	})
}

// noProcesses wants nothing left after an orderly end.
func (f *faultTest) noProcesses(t *testing.T) {
	t.Helper()
	for range 1000 {
		by, strays := f.tree()
		if len(by) == 0 && !slices.ContainsFunc(strays, func(p process) bool { return p.parent == 1 }) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	by, strays := f.tree()
	t.Errorf("left after the platform was stopped: %v, %v", by, strays)
}
