package compute

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const rest = "S 7 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 9 1000 12 18446744073709551615"
	for _, name := range []string{"sh", "a) (b", "x y", ""} {
		pid, p, err := parseStat([]byte("42 (" + name + ") " + rest))
		if err != nil || pid != 42 || p.parent != 7 || p.cpu != 2*time.Second || p.memory != 12*int64(os.Getpagesize()) {
			t.Errorf("%q: %d, %+v, %v", name, pid, p, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (sh", "x (sh) " + rest, "42 (sh) S 7", "42 (sh) " + strings.Replace(rest, "150", "x", 1)} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// FuzzParseStat: whatever the kernel says, it is read or refused.
func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 7 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 9 1000 12 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pid, p, err := parseStat(b); err != nil && (pid != 0 || p != process{}) {
			t.Errorf("%d, %+v beside %v", pid, p, err)
		}
	})
}

// TestUsageOf: what runs below a process is counted, itself is not, and neither are
// others.
func TestUsageOf(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(sleep 60; :) & (sleep 60; :) & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of it ends with the test
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	var got map[int]Usage
	for range 500 {
		var err error
		if got, err = UsageOf([]int{pid, 1 << 30}); err != nil {
			t.Fatal(err)
		}
		if got[pid].Processes == 4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if u := got[pid]; u.Processes != 4 || u.Memory <= 0 {
		t.Errorf("%+v below %d: want 2 shells and 2 sleepers", u, pid)
	}
	if _, there := got[1<<30]; there {
		t.Error("a process that is not there has a usage")
	}
	own, err := UsageOf([]int{os.Getpid()})
	if err != nil || own[os.Getpid()].Processes < 5 {
		t.Errorf("%+v below this process, %v", own, err)
	}
}
