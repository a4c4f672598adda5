package qemu_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
)

// canary is the secret that no refused machine may get.
const canary = "CANARY-7d1f4b0c-of-the-machines"

// lab is a platform that runs virtual machines, whose host the tests are: they may
// change every file of it, and how QEMU is started.
type lab struct {
	exe, data, work string
	kernel          string
	env             []string
	host            *client.Host
	up              *exec.Cmd
}

// wrapper stands in for QEMU, and changes its arguments by a sed script that lies in
// the instance's directory.
const wrapper = `#!/bin/sh
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu # a copy looks for them beside itself
set -- -L /usr/share/qemu -L /usr/share/seabios "$@"
for a in "$@"; do case "$a" in *variables.fd) dir=${a#*unit=1,file=}; dir=${dir%/*};; esac; done
[ -f "$dir/tamper.sed" ] || exec REAL "$@"
for a in "$@"; do
  shift
  set -- "$@" "$(printf '%s\n' "$a" | sed -f "$dir/tamper.sed")"
done
exec REAL "$@"
`

// newLab builds the program, and starts a platform in a mount namespace of its own,
// where QEMU is the wrapper. It skips where machines cannot be run; test/vm/run gets
// what it takes.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{kernel: os.Getenv("CLOISTER_VM_KERNEL"), work: t.TempDir()}
	if l.kernel == "" {
		t.Skip("no machine is booted: make vm does (CLOISTER_VM_KERNEL names a kernel of Linux)")
	}
	real, err := exec.LookPath("qemu-system-x86_64")
	if err != nil || os.Getuid() != 0 {
		t.Skip("no QEMU, or not root, who alone can put something in its place")
	}
	l.exe, l.data = filepath.Join(l.work, "cloister"), filepath.Join(l.work, "data")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", l.exe, "github.com/cloister-cc/cloister/cmd/cloister")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	copied, script := filepath.Join(l.work, "qemu"), filepath.Join(l.work, "wrapper")
	program, err := os.ReadFile(real)
	if err = errors.Join(err, os.WriteFile(copied, program, 0o755), os.WriteFile(script, []byte(strings.ReplaceAll(wrapper, "REAL", copied)), 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "--mount", "mount", "--bind", script, real).CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody put something in QEMU's place: %v: %s", err, out)
	}
	l.env = append(os.Environ(), "HOME="+filepath.Join(l.work, "home"), "XDG_CONFIG_HOME="+filepath.Join(l.work, "home"), "CLOISTER_DATA_DIR="+l.data)
	l.host = client.NewHost(l.data)
	l.start(t, fmt.Sprintf("mount --bind %s %s && exec ", script, real))
	t.Cleanup(func() { l.stop(t) })
	return l
}

// start starts the platform, after a shell command.
func (l *lab) start(t *testing.T, before string) {
	t.Helper()
	l.up = exec.Command("unshare", "--mount", "sh", "-c", before+l.exe+" up --listen 127.0.0.1:0 --fetch-collateral=false --portal none --vm-kernel "+l.kernel)
	l.up.Env = l.env
	log, err := os.Create(filepath.Join(l.work, "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	l.up.Stdout, l.up.Stderr = log, log
	if err := l.up.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if _, err := l.host.Platform(t.Context()); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b, _ := os.ReadFile(log.Name())
	t.Fatalf("the platform does not start: %s", b)
}

func (l *lab) stop(t *testing.T) {
	t.Helper()
	_ = l.up.Process.Signal(syscall.SIGINT)
	_ = l.up.Wait()
	if left := l.processes("qemu", "swtpm", "shim"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// processes are those of this lab whose command lines have one of the words.
func (l *lab) processes(words ...string) []int {
	var found []int
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		b, err := os.ReadFile(path)
		line := string(bytes.ReplaceAll(b, []byte{0}, []byte(" ")))
		if err != nil || !strings.Contains(line, l.data) {
			continue
		}
		for _, w := range words {
			var pid int
			if _, err := fmt.Sscanf(path, "/proc/%d/", &pid); err == nil && strings.Contains(line, w) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// run runs a command of the program and returns what it printed.
func (l *lab) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), l.exe, args...)
	cmd.Env = l.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, &stderr)
	}
	return string(out)
}

// waiting is the program of testdata/program.
var waiting = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cloister-vm-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./testdata/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(path)
})

// instance is an instance that wants the canary, which exactly its measurement and
// launch may have.
type instance struct {
	lab  *lab
	name string
	dir  compute.Dir
}

// create makes an instance without starting it, and the key that it wants under a
// policy, or one for exactly what the owner computes of it. The host adds arguments of
// its own, before and after the image.
func (l *lab) create(t *testing.T, name, policy string, own, program []string) *instance {
	t.Helper()
	b, err := waiting()
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(l.work, name+".elf")
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--tee", "tpm-vm", "--memory", "64", "--secret", "s=vm/" + name}
	var m struct {
		Measurement  string `json:"measurement"`
		LaunchDigest string `json:"launch_digest"`
	}
	// The owner computes this anywhere, before there is an instance.
	measured := l.run(t, slices.Concat([]string{"instance", "measure", "-o", "json", "--kernel", l.kernel}, args, []string{image})...)
	if err := json.Unmarshal([]byte(measured), &m); err != nil {
		t.Fatal(err)
	}
	if policy == "" {
		policy = "accept: [tpm-vm]\nallow_simulated: true\nmeasurements: [" + m.Measurement + "]\nlaunch_digests: [" + m.LaunchDigest + "]\ntcb: [any]\n"
	} else {
		policy = strings.ReplaceAll(policy, "MEASUREMENT", m.Measurement)
	}
	file, secret := filepath.Join(l.work, name+".yaml"), filepath.Join(l.work, name+".secret")
	if err := errors.Join(os.WriteFile(file, []byte("version: 1\nname: "+name+"\n"+policy), 0o600), os.WriteFile(secret, []byte(canary), 0o600)); err != nil {
		t.Fatal(err)
	}
	l.run(t, "key", "import", "vm/"+name, "--file", secret, "--policy", file)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(own, "--restart") {
		own = append(own, "--restart", "never")
	}
	l.run(t, slices.Concat([]string{"instance", "create", "--no-start", "--name", name}, args, own, []string{image, "--"}, program)...)
	i, err := l.host.Instance(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if honest := !slices.Contains(own, "--debug"); !i.Simulated || honest && i.Expected.String() != m.Measurement || len(i.ExpectedRegisters) != 10 {
		t.Errorf("expected %s, simulated %t, %d registers; computed %s", i.Expected, i.Simulated, len(i.ExpectedRegisters), m.Measurement)
	}
	return &instance{l, name, compute.Dir(filepath.Join(l.data, "instances", i.ID))}
}

// bootTime bounds a boot, on a machine that does much else.
const bootTime = 4 * time.Minute

// starts starts the instance and waits until it runs or has failed.
func (i *instance) starts(t *testing.T) compute.Instance {
	t.Helper()
	i.lab.run(t, "instance", "start", i.name)
	return i.wait(t, client.UntilRunning)
}

func (i *instance) stops(t *testing.T) {
	t.Helper()
	i.lab.run(t, "instance", "stop", i.name)
	i.wait(t, client.UntilFinal)
}

func (i *instance) wait(t *testing.T, until client.Until) compute.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	got, err := i.lab.host.Wait(ctx, i.name, until)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// alter changes the file of the instance that a pattern names.
func (i *instance) alter(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(string(i.dir), file))
	if err != nil || len(found) != 1 {
		t.Fatal(file, found, err)
	}
	b, err := os.ReadFile(found[0])
	if err == nil {
		err = os.WriteFile(found[0], change(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tamper has QEMU started with other arguments.
func (i *instance) tamper(t *testing.T, sed string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(i.dir), "tamper.sed"), []byte(sed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// copyDir copies the files of a directory.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
}
