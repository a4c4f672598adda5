package qemu_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
)

// qemuProcess is what QEMU's command line is known by, whatever its name: one of its arguments.
const qemuProcess = "nodefaults"

// of are the processes of an instance whose command lines have a word.
func (i *instance) of(word string) []int {
	var found []int
	for _, pid := range i.lab.processes(word) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(b), string(i.dir)) {
			found = append(found, pid)
		}
	}
	return found
}

// kill kills the one process of that kind.
func (i *instance) kill(t *testing.T, who string) {
	t.Helper()
	var pids []int
	for range 200 {
		if pids = i.of(who); len(pids) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(pids) != 1 || syscall.Kill(pids[0], syscall.SIGKILL) != nil {
		t.Fatalf("%s of %s: %v", who, i.name, pids)
	}
	for range 1000 { // until it is gone, so that what follows sees the consequences
		if !slices.Contains(i.of(who), pids[0]) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s %d does not die", who, pids[0])
}

// until looks at the instance until it is as wanted.
func (i *instance) until(t *testing.T, done func(compute.Instance) bool) compute.Instance {
	t.Helper()
	var got compute.Instance
	for deadline := time.Now().Add(bootTime); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		if got, err = i.lab.host.Instance(t.Context(), i.name); err == nil && done(got) {
			return got
		}
	}
	t.Fatalf("it stays %s: %s", got.Status.State, got.Status.Message)
	return got
}

// recovers wants the instance attested again after a start, as one whole, with its secret.
func (i *instance) recovers(t *testing.T, epoch int) compute.Instance {
	t.Helper()
	got := i.until(t, func(i compute.Instance) bool {
		return i.Status.Epoch > epoch && i.Status.State == compute.Running || i.Status.State == compute.Failed && i.Status.Code == "not_verified"
	})
	if got.Status.State != compute.Running {
		t.Fatalf("%s: %s (%v)", got.Status.Code, got.Status.Message, got.Status.Failures)
	}
	for _, who := range []string{qemuProcess, "swtpm", "shim"} {
		if pids := i.of(who); len(pids) != 1 {
			t.Errorf("%d processes %s: %v", len(pids), who, pids)
		}
	}
	return got
}

// TestKillMachines kills each process of a machine at each point of its life, and wants
// every time: no orphan, no double run, and the machine attested again, with its secret
// and its TPM as they were.
func TestKillMachines(t *testing.T) {
	l := newLab(t)
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("CLOISTER_FAULT_ROUNDS")); err == nil {
		rounds = n
	}
	t.Run("group", func(t *testing.T) {
		for _, who := range []string{qemuProcess, "swtpm", "shim"} {
			t.Run(who, func(t *testing.T) {
				t.Parallel()
				l.killAll(t, who, rounds)
			})
		}
	})
	l.killSupervisor(t)
}

// killAll kills a process while the machine boots, while it attests, and while it runs.
func (l *lab) killAll(t *testing.T, who string, rounds int) {
	i := l.create(t, who, "", []string{"--restart", "always"}, nil)
	l.run(t, "instance", "start", i.name)
	for round := range rounds {
		for _, when := range []compute.State{compute.Preparing, compute.Attesting, compute.Running} {
			got := i.until(t, func(i compute.Instance) bool { return i.Status.State == when })
			if when == compute.Preparing {
				time.Sleep(time.Duration(round%8) * time.Second) // all along the boot
			}
			i.kill(t, who)
			if got = i.recovers(t, got.Status.Epoch); got.Status.Code != "" {
				t.Errorf("killed while %s: %+v", when, got.Status)
			}
			if when != compute.Running {
				l.run(t, "instance", "stop", i.name)
				i.wait(t, client.UntilFinal)
				if left := slices.Concat(i.of(qemuProcess), i.of("swtpm")); len(left) > 0 {
					t.Errorf("stopped, and left behind: %v", left)
				}
				l.run(t, "instance", "start", i.name)
			}
		}
	}
	l.run(t, "instance", "delete", i.name)
	for range 1000 {
		if _, err := os.Stat(string(i.dir)); os.IsNotExist(err) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left := slices.Concat(i.of(qemuProcess), i.of("swtpm"), i.of("shim")); len(left) > 0 {
		t.Errorf("deleted, and left behind: %v", left)
	}
}

// killSupervisor kills the supervisor under a machine, which goes on, and is adopted by
// the next one.
func (l *lab) killSupervisor(t *testing.T) {
	i := l.create(t, "adopted", "", nil, nil)
	before := i.starts(t)
	if before.Status.State != compute.Running {
		t.Fatalf("%+v", before.Status)
	}
	pid := i.of(qemuProcess)
	_ = l.up.Process.Kill()
	_ = l.up.Wait()
	for _, pid := range l.processes("cloister up") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	l.start(t, "exec ")
	got, err := l.host.Instance(t.Context(), "adopted")
	if err != nil || got.Status.State != compute.Running || got.Status.Epoch != before.Status.Epoch || !slices.Equal(i.of(qemuProcess), pid) {
		t.Errorf("%+v, %v; QEMU %v, was %v", got.Status, err, i.of(qemuProcess), pid)
	}
	i.stops(t)
}
