package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// host is the machine's owner: a platform that runs as processes of its own, and
// everything that its owner can do to it.
type host struct {
	paths   datadir.Paths
	traffic string // where everything that passes is recorded
	log     string
	cmd     *exec.Cmd
	done    chan error
	api     *client.Host
	info    client.Platform
}

// startTimeout bounds the start of a platform.
const startTimeout = time.Minute

// startHost runs `cloister up` in a fresh data directory below dir. Unless keep
// is set, the platform ends with this process, however that ends.
func startHost(ctx context.Context, dir string, keep bool) (*host, error) {
	h := &host{
		paths: datadir.Paths{Data: filepath.Join(dir, "data")}, traffic: filepath.Join(dir, "traffic"), log: filepath.Join(dir, "up.log"),
		done: make(chan error, 1),
	}
	log, err := os.OpenFile(h.log, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	h.cmd = exec.Command("/proc/self/exe", "up", "--data-dir", h.paths.Data, "--listen", "127.0.0.1:0", "--record-traffic", h.traffic, "--portal", "none", "-o", "json")
	h.cmd.Args[0] = "cloister"
	h.cmd.Stdout, h.cmd.Stderr = log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !keep {
		h.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig fires when this thread ends
		defer runtime.UnlockOSThread()
		err := h.cmd.Start()
		started <- err
		if err == nil {
			h.done <- h.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start platform: %w", err)
	}
	h.api = client.NewHost(h.paths.Data)
	if err := h.waitUp(ctx); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

func (h *host) waitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		var err error
		if h.info, err = h.api.Platform(ctx); err == nil {
			return nil
		}
		select {
		case err := <-h.done:
			h.done <- err
			said, _ := os.ReadFile(h.log)
			return fmt.Errorf("the platform ended: %w: %s", err, bytes.TrimSpace(said))
		case <-ctx.Done():
			return fmt.Errorf("the platform is not up: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the platform and everything in it.
func (h *host) stop() error {
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-h.done:
		return err
	case <-time.After(30 * time.Second):
		_ = h.cmd.Process.Kill()
		return errors.New("the platform did not stop")
	}
}

// job is one launch.
type job struct {
	name   string
	doc    launch.Document
	image  []byte
	inputs map[string][]byte
	env    map[string]string
}

// create starts a job and returns at once.
func (h *host) create(ctx context.Context, j job) error {
	inputs := map[string]io.Reader{}
	for name, b := range j.inputs {
		inputs[name] = bytes.NewReader(b)
	}
	spec := compute.Spec{TEE: tee.Software, Launch: j.doc, Env: j.env, Restart: compute.RestartNever}
	_, err := h.api.Create(ctx, client.CreateRequest{Name: j.name, Spec: spec, Start: true}, bytes.NewReader(j.image), inputs)
	return err
}

// run starts a job and waits for its end.
func (h *host) run(ctx context.Context, j job) (compute.Instance, error) {
	if err := h.create(ctx, j); err != nil {
		return compute.Instance{}, err
	}
	return h.api.Wait(ctx, j.name, client.UntilFinal)
}

// output returns what a job handed out.
func (h *host) output(ctx context.Context, job, name string) ([]byte, error) {
	r, err := h.api.Output(ctx, job, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// said is what a job printed, as far as its launch lets it out.
func (h *host) said(ctx context.Context, job string) string {
	r, err := h.api.Logs(ctx, job, false)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = r.Close() }()
	b, _ := io.ReadAll(io.LimitReader(r, 4<<10))
	return string(bytes.TrimSpace(b))
}

// restartNode stops the node, lets the machine's owner do something to its disk
// meanwhile, and starts it again; it returns the node as it then is.
func (h *host) restartNode(ctx context.Context, meanwhile func(state string) error) (compute.Instance, error) {
	var none compute.Instance
	if err := h.api.Stop(ctx, compute.NodeName); err != nil {
		return none, err
	}
	if _, err := h.api.Wait(ctx, compute.NodeName, client.UntilFinal); err != nil {
		return none, err
	}
	state := filepath.Join(h.paths.Instances(), compute.NodeName, "state", "state.log")
	if err := meanwhile(state); err != nil {
		return none, err
	}
	if err := h.api.Start(ctx, compute.NodeName); err != nil {
		return none, err
	}
	return h.api.Wait(ctx, compute.NodeName, client.UntilServing)
}

// processes lists the host's side: the platform's processes except those inside
// instances, which are the agents and what they started.
func (h *host) processes() (map[int]string, error) {
	list := map[int]string{h.cmd.Process.Pid: "supervisor"}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		args := bytes.Split(b, []byte{0})
		if err != nil || len(args) < 3 || !bytes.HasPrefix(args[2], []byte(h.paths.Data)) {
			continue // agents are told nothing on their command line
		}
		list[pid] = string(args[1])
	}
	return list, nil
}

// kept says how to go on with the platform.
func (h *host) kept(hospitals ...*hospital) *Kept {
	k := &Kept{DataDir: h.paths.Data, PID: h.cmd.Process.Pid, Identities: map[string]string{}}
	for _, o := range hospitals {
		k.Identities["hospital-"+o.letter] = o.file
	}
	return k
}

// writeJSON writes v to a file that only its owner reads.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}
