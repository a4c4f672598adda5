package sandbox_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/compute/sandbox"
)

// children are what this test binary becomes in a sandbox. Each prints what it
// saw; the tests read it outside.
var children = map[string]func() error{
	sandbox.ProbeCommand: func() error {
		if code := sandbox.ProbeMain(); code != 0 {
			os.Exit(code)
		}
		return nil
	},
	"look":   inside(look),
	"signal": inside(signalParent),
	"sleep":  inside(func(sandbox.Paths) error { time.Sleep(time.Minute); return nil }), // it waits to be killed
	"eat":    inside(eat),
	"state":  inside(writeState),
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if child, ok := children[os.Args[1]]; ok {
			if err := child(); err != nil {
				fmt.Println("child:", err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func nothing() error { return nil }

// inside puts up all walls and then runs what is to be tried behind them.
func inside(try func(sandbox.Paths) error) func() error {
	return func() error {
		paths, outside, err := sandbox.Enter(nothing, nothing)
		if err != nil {
			return err
		}
		in, err := sandbox.LockDown(sandbox.Profile{ReadDirs: []string{"/proc"}, WriteDirs: []string{paths.Work, "/state"}})
		if err != nil {
			return err
		}
		fmt.Println("missing:", outside.Merge(in).Missing)
		return try(paths)
	}
}

// look prints what can be seen and done.
func look(paths sandbox.Paths) error {
	say := func(what string, err error) { fmt.Printf("%s: %v\n", what, err) }
	_, err := os.ReadFile("/etc/passwd")
	say("passwd", err)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var pids []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, e.Name())
		}
	}
	fmt.Println("pids:", pids)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	say("socket", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	say("unix socket", err)
	say("mount", unix.Mount("tmpfs", paths.Work, "tmpfs", 0, ""))
	say("namespace", unix.Unshare(unix.CLONE_NEWUSER))
	say("ptrace", unix.PtraceAttach(1))
	say("exec", exec.Command("/proc/self/exe").Run())
	say("write root", os.WriteFile("/x", nil, 0o600))
	say("write work", os.WriteFile(filepath.Join(paths.Work, "x"), []byte("ok"), 0o600))
	say("link out", os.Symlink("/proc", filepath.Join(paths.Work, "link")))
	say("chroot", unix.Chroot("/"))
	say("environ", fmt.Errorf("%d variables", len(os.Environ())))
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		for _, want := range []string{"CapEff:", "NoNewPrivs:", "Seccomp:"} {
			if strings.HasPrefix(line, want) {
				fmt.Print(line)
			}
		}
	}
	return nil
}

func signalParent(sandbox.Paths) error {
	fmt.Println("signal:", unix.Kill(os.Getppid(), 0), unix.Kill(-1, 0))
	return nil
}

func eat(sandbox.Paths) error {
	var kept [][]byte
	for range 256 {
		b := bytes.Repeat([]byte{1}, 1<<20)
		kept = append(kept, b)
	}
	fmt.Println("ate", len(kept))
	return nil
}

func writeState(p sandbox.Paths) error {
	if p.State == "" {
		return fmt.Errorf("no state directory")
	}
	return os.WriteFile(filepath.Join(p.State, "kept"), []byte("kept"), 0o600)
}

// run starts a child and returns what it printed.
func run(t *testing.T, child string, cfg sandbox.Config, limits func(int) sandbox.Report) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Root == "" {
		cfg.Root = t.TempDir()
	}
	cfg.ScratchMiB, cfg.Hostname = 4, "test"
	cell, err := sandbox.Start(cfg, []string{child}, w, nil, limits)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), cell.Wait()
}

func TestWalls(t *testing.T) {
	t.Setenv("SECRET_OF_THE_HOST", "x")
	out, err := run(t, "look", sandbox.Config{}, nil)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(out, "missing: []") {
		t.Skip("this host offers not all walls, so not all can be tried: ", out)
	}
	for _, want := range []string{
		"passwd: open /etc/passwd: no such file", "pids: [1]", "socket: operation not permitted", "unix socket: operation not permitted",
		"mount: operation not permitted", "namespace: operation not permitted", "ptrace: operation not permitted", "exec: fork/exec",
		"write root: open /x: ", "write work: <nil>", "link out: symlink", "chroot: operation not permitted",
		"environ: 0 variables", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in:\n%s", want, out)
		}
	}
}

func TestNobodyOutsideCanBeSignalled(t *testing.T) {
	out, err := run(t, "signal", sandbox.Config{}, nil)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(out, "<nil>") {
		t.Errorf("a signal got out: %s", out)
	}
}

func TestStateDirectoryReachesTheHost(t *testing.T) {
	state := t.TempDir()
	if out, err := run(t, "state", sandbox.Config{State: state}, nil); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(state, "kept")); err != nil || string(b) != "kept" {
		t.Errorf("state %q (%v)", b, err)
	}
}

func TestKillEndsTheChild(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cell, err := sandbox.Start(sandbox.Config{Root: t.TempDir(), ScratchMiB: 1, Hostname: "x"}, []string{"sleep"}, w, nil, nil)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := r.Read(one); err != nil { // it has put up its walls
		t.Fatal(err)
	}
	cell.Kill()
	if err := cell.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	if err := unix.Kill(cell.PID, 0); err == nil {
		t.Error("the process is still there")
	}
}

func TestMemoryLimit(t *testing.T) {
	group := sandbox.NewCgroup("test-memory", 64<<20, 64)
	defer group.Remove()
	var report sandbox.Report
	add := func(pid int) sandbox.Report { report = group.Add(pid); return report }
	out, err := run(t, "eat", sandbox.Config{}, add)
	if !slices.Contains(report.Applied, sandbox.MemoryLimit) {
		t.Skip("this host gives this user no memory control group")
	}
	if err == nil || strings.Contains(out, "ate") {
		t.Errorf("256 MiB were taken behind a limit of 64 MiB: %s", out)
	}
	if !group.OutOfMemory() {
		t.Error("the group does not say that its limit was reached")
	}
}

func TestProbe(t *testing.T) {
	report, err := sandbox.Probe(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	named := len(report.Applied) + len(report.Missing)
	if named != len(sandbox.All()) {
		t.Errorf("%d walls are reported, want each of %d as up or missing: %+v", named, len(sandbox.All()), report)
	}
}

func TestMergeMissingWins(t *testing.T) {
	a := sandbox.Report{Applied: []sandbox.Wall{sandbox.Seccomp, sandbox.Landlock}}
	b := sandbox.Report{Applied: []sandbox.Wall{sandbox.EmptyRoot}, Missing: []sandbox.Wall{sandbox.Seccomp}}
	got := a.Merge(b)
	if !slices.Equal(got.Applied, []sandbox.Wall{sandbox.EmptyRoot, sandbox.Landlock}) || !slices.Equal(got.Missing, []sandbox.Wall{sandbox.Seccomp}) {
		t.Errorf("got %+v", got)
	}
}

func Example() {
	fmt.Println(len(sandbox.All()), "walls, the first:", sandbox.All()[0])
	// Output: 18 walls, the first: user_namespace
}
