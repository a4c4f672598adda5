package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ProbeCommand is the hidden command of this binary that [Probe] runs in the
// sandbox; it must call [ProbeMain].
const ProbeCommand = "sandbox-probe"

// Probe builds the walls around a child that then tries to get out, and returns
// which of them stand. dir is an existing empty directory. Nothing is inferred
// from version numbers or device files.
func Probe(ctx context.Context, dir string) (Report, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = r.Close() }()
	group := NewCgroup("probe", 64<<20, 16)
	defer group.Remove()
	cell, err := Start(Config{Root: dir, ScratchMiB: 1, Hostname: "probe"}, []string{ProbeCommand}, w, nil, group.Add)
	_ = w.Close()
	if err != nil {
		return Report{}, err
	}
	stop := context.AfterFunc(ctx, cell.Kill)
	defer stop()
	out, err := io.ReadAll(io.LimitReader(r, 64<<10))
	werr := cell.Wait()
	var report Report
	if err := errors.Join(err, json.Unmarshal(out, &report)); err != nil || werr != nil {
		return Report{}, fmt.Errorf("probe sandbox: %w: %s", errors.Join(err, werr), out)
	}
	return report, nil
}

// ProbeMain is the child of [Probe]. It prints the report and returns the exit
// status: 1 when a wall that claims to stand let something through.
func ProbeMain() int {
	_, outside, err := Enter(nothing, nothing)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	inside, err := LockDown(Profile{ReadDirs: []string{"/proc"}, WriteDirs: []string{"/work"}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var secret error
	if fd, err := unix.MemfdSecret(unix.O_CLOEXEC); err != nil {
		secret = err
	} else {
		_ = unix.Close(fd)
	}
	inside.add(MemfdSecret, secret)
	report := outside.Merge(inside)
	if err := escapes(report); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return 1
	}
	return 0
}

func nothing() error { return nil }

// escapes tries what the walls must stop.
func escapes(r Report) error {
	stands := map[Wall]bool{}
	for _, w := range r.Applied {
		stands[w] = true
	}
	if _, err := os.ReadFile("/etc/passwd"); err == nil && (stands[EmptyRoot] || stands[Landlock]) {
		return errors.New("the host's files can be read")
	}
	if stands[Seccomp] {
		if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err == nil {
			_ = unix.Close(fd)
			return errors.New("a socket can be made")
		}
		if err := unix.PtraceAttach(os.Getppid()); err == nil {
			return errors.New("another process can be traced")
		}
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT, ""); err == nil {
			return errors.New("something can be mounted")
		}
		if err := unix.Unshare(unix.CLONE_NEWUSER); err == nil {
			return errors.New("a namespace can be made")
		}
	}
	if stands[EmptyRoot] {
		if err := os.WriteFile("/escape", nil, 0o600); err == nil {
			return errors.New("the root can be written")
		}
	}
	if stands[PIDNamespace] && os.Getpid() != 1 {
		return errors.New("the process is not alone in its namespace")
	}
	return nil
}
