package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a program that dies with this one.
type process struct {
	name string
	pid  int
	done chan struct{}
	err  error // how it ended
}

// firstFile is the descriptor of the first of the files that a process is given.
const firstFile = 3

// startProcess starts a program in a directory, with some files from [firstFile] on, an
// empty environment and no input.
func startProcess(dir string, output *os.File, files []*os.File, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{name: name, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The signal comes when the starting thread ends, so this goroutine keeps its
		// thread until the program is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// kill ends the process and waits for it.
func (p *process) kill() {
	select {
	case <-p.done: // its number may be another's by now
		return
	default:
	}
	_ = unix.Kill(p.pid, unix.SIGKILL)
	<-p.done
}

// wait waits until the process has ended, or kills it when ctx ends.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
	}
	return p.err
}

// socketpair returns two connected sockets.
func socketpair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), name+" here"), os.NewFile(uintptr(fds[1]), name+" there"), nil
}
