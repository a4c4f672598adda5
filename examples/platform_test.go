//go:build linux

package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
)

// builds is where everything that the tests build lies, until they end.
var builds string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if builds, err = os.MkdirTemp("", "examples"); err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(builds) }()
	return m.Run()
}

// cloister builds the binary, once.
var cloister = sync.OnceValues(func() (string, error) {
	path := filepath.Join(builds, "cloister")
	return path, goBuild(path, "./cmd/cloister")
})

// goBuild builds a package of this module into path.
func goBuild(path, pkg string, env ...string) error {
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir = ".."
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New("build " + pkg + ": " + err.Error() + "\n" + string(out))
	}
	return nil
}

// platform is `cloister up` on a data directory of its own.
type platform struct {
	bin  string
	home string // home directory and data directory
}

// up starts a platform. It ends with the test.
func up(t *testing.T) *platform {
	t.Helper()
	bin, err := cloister()
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{bin, t.TempDir()}
	var log bytes.Buffer
	cmd := p.command(context.Background(), "up", "--listen", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = &log, &log
	// If this test is killed, its platform ends too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, done := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig fires when this thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := <-done; err != nil {
			t.Errorf("cloister up: %v: %s", err, log.Bytes())
		}
	})
	p.waitUp(t)
	return p
}

// waitUp waits until the platform answers.
func (p *platform) waitUp(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	host := client.NewHost(p.data())
	for {
		if _, err := host.Platform(ctx); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the platform does not come up")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *platform) data() string { return filepath.Join(p.home, "data") }

func (p *platform) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Env = []string{"HOME=" + p.home, "CLOISTER_DATA_DIR=" + p.data(), "PATH=" + os.Getenv("PATH")}
	return cmd
}

// cli runs a command of the command line.
func (p *platform) cli(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := p.command(t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), 0
}

// must is cli for a command that has to succeed.
func (p *platform) must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, status := p.cli(t, args...)
	if status != 0 {
		t.Fatalf("cloister %s: status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// measurement is what `cloister instance measure` expects of a launch.
func (p *platform) measurement(t *testing.T, args ...string) string {
	t.Helper()
	var m struct {
		Measurement string `json:"measurement"`
	}
	out := p.must(t, append([]string{"instance", "measure", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Measurement == "" {
		t.Fatalf("no measurement in %s: %v", out, err)
	}
	return m.Measurement
}

// ended waits for the end of an instance and returns it with the last line that
// it printed on each of its streams, in all its runs.
func (p *platform) ended(t *testing.T, name string) (i compute.Instance, stdout, stderr string) {
	t.Helper()
	i, err := client.NewHost(p.data()).Wait(t.Context(), name, client.UntilFinal)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := p.cli(t, "instance", "logs", name)
	if status != 0 {
		t.Fatalf("cloister instance logs: status %d, %s", status, stderr)
	}
	return i, lastLine(stdout), lastLine(stderr)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// describe returns an instance as the host's API knows it.
func (p *platform) describe(t *testing.T, name string) (compute.Instance, error) {
	t.Helper()
	return client.NewHost(p.data()).Instance(t.Context(), name)
}

// state is the directory where an instance's state lies: the host's to read,
// change and put back.
func (p *platform) state(i compute.Instance) string {
	return filepath.Join(datadir.Paths{Data: p.data()}.Instances(), i.ID, "state")
}
