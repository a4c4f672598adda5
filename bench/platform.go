package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/tinywasm"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// bench holds what suites share.
type bench struct {
	quick bool
	root  string // of this module
	dir   string
	exe   string // the release binary
}

func newBench(quick bool) (*bench, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "cloister-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{quick: quick, root: strings.TrimSpace(string(out)), dir: dir, exe: filepath.Join(dir, "cloister")}
	return b, b.compile(b.exe, "")
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) }

// compile builds the release binary, with a cache of its own if one is named.
func (b *bench) compile(to, cache string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", to, "./cmd/cloister")
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+cache)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// up is a running platform.
type up struct {
	cmd  *exec.Cmd
	dir  string
	host *client.Host
}

func (b *bench) up(name string, flags ...string) (*up, error) {
	u := &up{dir: filepath.Join(b.dir, name)}
	args := append([]string{"up", "--data-dir", u.dir, "--listen", "127.0.0.1:0", "--fetch-collateral=false", "--portal", "none"}, flags...)
	u.cmd = exec.Command(b.exe, args...)
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := u.cmd.Start(); err != nil {
		return nil, err
	}
	u.host = client.NewHost(u.dir)
	for range 3000 {
		if _, err := u.host.Platform(context.Background()); err == nil {
			return u, nil
		}
		pause()
	}
	return nil, errors.Join(errors.New("the platform does not come up"), u.down())
}

// pause is between two looks at another process.
func pause() { time.Sleep(10 * time.Millisecond) }

func (u *up) down() error {
	_ = u.cmd.Process.Signal(syscall.SIGTERM)
	return u.cmd.Wait()
}

// launch starts an instance that sleeps and waits until it is attested.
func (u *up) launch(name string) (compute.Instance, error) {
	module := tinywasm.Idle()
	doc := launch.New(launch.Wasm, module)
	doc.MemoryMiB = 16
	spec := compute.Spec{TEE: tee.Software, Launch: doc, Restart: compute.RestartNever}
	ctx := context.Background()
	if _, err := u.host.Create(ctx, client.CreateRequest{Name: name, Spec: spec, Start: true}, bytes.NewReader(module), nil); err != nil {
		return compute.Instance{}, err
	}
	i, err := u.host.Wait(ctx, name, client.UntilRunning)
	if err == nil && i.Status.State != compute.Running {
		err = fmt.Errorf("%s is %s: %s %s", name, i.Status.State, i.Status.Code, i.Status.Message)
	}
	return i, err
}

// start is the time from the start of an instance's processes to attested READY,
// beside the bare start of as many processes of this binary.
func (b *bench) start() ([]figure, error) {
	u, err := b.up("start")
	if err != nil {
		return nil, err
	}
	defer func() { _ = u.down() }()
	n := 40
	if b.quick {
		n = 10
	}
	var took, bare []float64
	for i := range n {
		name := "w" + strconv.Itoa(i)
		instance, err := u.launch(name)
		if err != nil {
			return nil, err
		}
		took = append(took, milliseconds(instance.Status.ReadyAt.Sub(instance.Status.StartedAt)))
		if err := u.host.Delete(context.Background(), name); err != nil {
			return nil, err
		}
		one, err := b.bareStart()
		if err != nil {
			return nil, err
		}
		bare = append(bare, one)
	}
	limit := percentile(bare, 50)
	row := func(name string, p float64, bar string) figure {
		v := percentile(took, p)
		return figure{Name: name, Value: v, Unit: "ms", Against: "three bare processes of this binary", Limit: limit, Ratio: v / limit, Bar: bar}
	}
	return []figure{
		row(fmt.Sprintf("software TEE, start to attested READY, p50 of %d", n), 50, ""),
		row(fmt.Sprintf("software TEE, start to attested READY, p95 of %d", n), 95, "<= 50 ms"),
	}, nil
}

// bareStart starts three processes one after the other, as an instance is made
// of three, that do nothing but start.
func (b *bench) bareStart() (float64, error) {
	start := time.Now()
	for range 3 {
		if err := exec.Command(b.exe, "version", "--help").Run(); err != nil {
			return 0, err
		}
	}
	return milliseconds(time.Since(start)), nil
}

// density runs many instances at once and weighs what one adds.
func (b *bench) density() ([]figure, error) {
	u, err := b.up("density")
	if err != nil {
		return nil, err
	}
	defer func() { _ = u.down() }()
	n := 200
	if b.quick {
		n = 40
	}
	failed := make(chan error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range n {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if _, err := u.launch("w" + strconv.Itoa(i)); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	inside, shims, err := weigh(u.dir)
	if err != nil {
		return nil, err
	}
	running := float64(n - len(errs))
	return []figure{
		{Name: "software TEE, instances at once", Value: running, Unit: "instances", Against: "asked for", Limit: float64(n), Ratio: running / float64(n), Bar: "200, all of them"},
		{Name: "software TEE, PSS of an idle instance (agent and program)", Value: inside, Unit: "MiB", Against: "its shim on the host", Limit: shims, Ratio: inside / shims, Bar: "<= 16 MiB"},
	}, errors.Join(errs...)
}

// weigh returns the mean proportional set size of instances and of shims, in MiB.
func weigh(dir string) (inside, shim float64, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, 0, err
	}
	shims, parents := map[int]float64{}, map[int]int{}
	sizes := map[int]float64{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		args := strings.Split(string(b), "\x00")
		if err != nil || len(args) < 2 || args[0] != "cloister" {
			continue
		}
		proc := filepath.Dir(file)
		pid, _ := strconv.Atoi(filepath.Base(proc))
		size, err := pss(proc)
		if err != nil {
			continue
		}
		parents[pid], sizes[pid] = parentOf(proc), size
		if args[1] == "shim" && strings.HasPrefix(args[2], dir) && filepath.Base(args[2]) != compute.NodeName {
			shims[pid] = size
		}
	}
	var total, own float64
	for pid, size := range sizes {
		if _, isShim := shims[pid]; isShim {
			own += size
		} else if _, agent := shims[parents[pid]]; agent {
			total += size
		} else if _, program := shims[parents[parents[pid]]]; program {
			total += size
		}
	}
	n := float64(len(shims))
	if n == 0 || total == 0 {
		return 0, 0, errors.New("no instance can be weighed: this needs the right to read their smaps_rollup")
	}
	return total / n, own / n, nil
}

// pss reads the proportional set size in MiB (proc(5), smaps_rollup).
func pss(proc string) (float64, error) {
	f, err := os.Open(filepath.Join(proc, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib float64
		if n, _ := fmt.Sscanf(lines.Text(), "Pss: %f kB", &kib); n == 1 {
			return kib / 1024, nil
		}
	}
	return 0, errors.New("no Pss")
}

func parentOf(proc string) int {
	b, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func percentile(v []float64, p float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)-1, int(p/100*float64(len(v))))]
}

// build is the time of a cold build and the size of the binary.
func (b *bench) build() ([]figure, error) {
	st, err := os.Stat(b.exe)
	if err != nil {
		return nil, err
	}
	const most = 60
	mib := float64(st.Size()) / (1 << 20)
	figures := []figure{{Name: "release binary", Value: mib, Unit: "MiB", Against: "the house's limit", Limit: most, Ratio: mib / most, Bar: "<= 60 MiB"}}
	if b.quick {
		return figures, nil
	}
	empty := filepath.Join(b.dir, "empty.go")
	if err := os.WriteFile(empty, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return nil, err
	}
	start := time.Now()
	cmd := exec.Command("go", "build", "-o", filepath.Join(b.dir, "empty"), empty)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+filepath.Join(b.dir, "cache-empty"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	limit := time.Since(start).Seconds()
	start = time.Now()
	if err := b.compile(filepath.Join(b.dir, "cold"), filepath.Join(b.dir, "cache-cold")); err != nil {
		return nil, err
	}
	cold := time.Since(start).Seconds()
	return append(figures, figure{Name: "cold build", Value: cold, Unit: "s", Against: "cold build of an empty program", Limit: limit, Ratio: cold / limit, Bar: "<= 180 s"}), nil
}
