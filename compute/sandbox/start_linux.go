package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Config is what the parent tells the child about its walls. It reaches the
// child on file descriptor 3; FirstFile and up are the caller's own files.
type Config struct {
	// Root is an existing empty directory of the host on which the child mounts
	// its own root. Nothing is written to it.
	Root string `json:"root"`
	// State is a host directory that the child sees read-write at /state; empty
	// for none.
	State string `json:"state,omitempty"`
	// ScratchMiB is the size limit of /work, the child's in-memory scratch space.
	ScratchMiB int    `json:"scratch_mib"`
	Hostname   string `json:"hostname"`
	// Outside is set by [Start]: the walls that the parent put up or could not.
	Outside Report `json:"outside"`
}

// FirstFile is the descriptor under which the child finds the first of the
// files given to [Start].
const FirstFile = 4

// Cell is a started child.
type Cell struct {
	PID  int
	done chan struct{}
	err  error
}

// namespaces lists the namespace walls with their clone flags.
var namespaces = []struct {
	wall Wall
	flag uintptr
}{
	{UserNamespace, unix.CLONE_NEWUSER},
	{PIDNamespace, unix.CLONE_NEWPID},
	{MountNamespace, unix.CLONE_NEWNS},
	{NetNamespace, unix.CLONE_NEWNET},
	{IPCNamespace, unix.CLONE_NEWIPC},
	{UTSNamespace, unix.CLONE_NEWUTS},
	{CgroupNamespace, unix.CLONE_NEWCGROUP},
}

// Start runs this program again, with the given arguments, as a child in
// namespaces of its own. The child must call [Enter] first of all. It has an
// empty environment and dies with this process. output receives its standard
// output and error; files become descriptors [FirstFile] and up, and limits
// (may be nil) are applied to it before it runs any of its own code.
func Start(cfg Config, args []string, output *os.File, files []*os.File, limits func(pid int) Report) (*Cell, error) {
	var first error
	for _, without := range fallbacks() {
		cell, err := start(cfg, args, output, files, without, limits)
		if err == nil {
			return cell, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EACCES) {
			break
		}
	}
	return nil, fmt.Errorf("start sandbox: %w", first)
}

// fallbacks lists the sets of namespaces to give up, weakest walls last. A
// host that forbids user namespaces still gives root all the others.
func fallbacks() [][]Wall {
	all := make([]Wall, len(namespaces))
	for i, n := range namespaces {
		all[i] = n.wall
	}
	return [][]Wall{nil, {CgroupNamespace}, {UserNamespace}, {UserNamespace, CgroupNamespace}, all}
}

func start(cfg Config, args []string, output *os.File, files []*os.File, without []Wall, limits func(int) Report) (*Cell, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()

	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "cloister"
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = append([]*os.File{r}, files...)
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cfg.Outside = Report{}
	for _, n := range namespaces {
		given := true
		for _, x := range without {
			given = given && x != n.wall
		}
		if !given {
			cfg.Outside.Missing = append(cfg.Outside.Missing, n.wall)
			continue
		}
		cfg.Outside.Applied = append(cfg.Outside.Applied, n.wall)
		attr.Cloneflags |= n.flag
		if n.wall == UserNamespace {
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		}
	}
	cmd.SysProcAttr = attr

	c := &Cell{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig fires when the starting thread ends, so this goroutine keeps
		// its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		_ = w.Close()
		return nil, err
	}
	c.PID = cmd.Process.Pid
	if limits != nil {
		cfg.Outside = cfg.Outside.Merge(limits(c.PID))
	}
	// The child waits for this before it does anything.
	err = json.NewEncoder(w).Encode(cfg)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		c.Kill()
		return nil, fmt.Errorf("configure: %w", err)
	}
	return c, nil
}

// Kill ends the child and everything in its PID namespace, and waits for it.
func (c *Cell) Kill() {
	_ = unix.Kill(c.PID, unix.SIGKILL)
	<-c.done
}

// Done is closed when the child has ended and was reaped.
func (c *Cell) Done() <-chan struct{} { return c.done }

// Wait returns how the child ended: nil or an *exec.ExitError.
func (c *Cell) Wait() error {
	<-c.done
	return c.err
}

// readConfig receives what [Start] sent.
func readConfig() (Config, error) {
	f := os.NewFile(3, "sandbox config")
	if f == nil {
		return Config{}, errors.New("enter sandbox: not started by a parent")
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return Config{}, fmt.Errorf("enter sandbox: %w", err)
	}
	var cfg Config
	if err := json.Unmarshal(b, &cfg); err != nil {
		return Config{}, fmt.Errorf("enter sandbox: %w", err)
	}
	return cfg, nil
}
