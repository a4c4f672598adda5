package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Paths are the directories that a locked process may use, as it sees them.
type Paths struct {
	Work  string `json:"work"`            // scratch, in memory
	App   string `json:"app"`             // holds the program, in memory
	State string `json:"state,omitempty"` // survives the instance; empty: none
}

// Enter gives the child its own empty root: /proc of its own PID namespace,
// /dev/null, /work, /app and, if asked for, /state. The old root is detached.
// before runs while the host's files are still visible, with this process
// already in its namespaces; processes it starts move to the new root too, and
// settled must return only when they need nothing of the old one any more. Call
// Enter first of all, then [LockDown].
//
// On a host without mount namespaces the paths lie below the directory that the
// parent named, and [EmptyRoot] is reported as missing: then Landlock alone
// keeps the process away from the host's files.
func Enter(before, settled func() error) (Paths, Report, error) {
	cfg, err := readConfig()
	if err != nil {
		return Paths{}, Report{}, err
	}
	if err := before(); err != nil {
		return Paths{}, Report{}, err
	}
	r := cfg.Outside
	if !slices.Contains(r.Applied, MountNamespace) {
		r.add(EmptyRoot, unix.EPERM)
		p := Paths{Work: filepath.Join(cfg.Root, "work"), App: filepath.Join(cfg.Root, "app"), State: cfg.State}
		return p, r, errors.Join(os.MkdirAll(p.Work, 0o700), os.MkdirAll(p.App, 0o700), settled())
	}
	err = newRoot(cfg)
	if err == nil {
		err = settled()
	}
	if err == nil {
		err = pivot(cfg.Root)
	}
	if err != nil {
		return Paths{}, Report{}, fmt.Errorf("enter sandbox: %w", err)
	}
	r.add(EmptyRoot, nil)
	if slices.Contains(r.Applied, UTSNamespace) {
		_ = unix.Sethostname([]byte(cfg.Hostname)) // cosmetic
	}
	p := Paths{Work: "/work", App: "/app"}
	if cfg.State != "" {
		p.State = "/state"
	}
	return p, r, nil
}

// newRoot mounts the new root beside the old one.
func newRoot(cfg Config) error {
	root := cfg.Root
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := tmpfs(root, unix.MS_NOEXEC, "size=64k,nr_inodes=64"); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "dev", "work", "app", "state"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := tmpfs(filepath.Join(root, "work"), unix.MS_NOEXEC, "size="+strconv.Itoa(cfg.ScratchMiB)+"m,nr_inodes=4096"); err != nil {
		return err
	}
	if err := tmpfs(filepath.Join(root, "app"), 0, "size=300m,nr_inodes=16"); err != nil {
		return err
	}
	if err := bindDevNull(root); err != nil {
		return err
	}
	if cfg.State != "" {
		target := filepath.Join(root, "state")
		if err := unix.Mount(cfg.State, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind state: %w", err)
		}
		// A bind mount takes the locked flags of its source, so ask for more only.
		_ = unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	return nil
}

func tmpfs(dir string, flags uintptr, opts string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|flags, opts+",mode=0755"); err != nil {
		return fmt.Errorf("mount scratch space: %w", err)
	}
	return nil
}

// bindDevNull gives the child the one device that Go's os/exec and C programs
// take for granted.
func bindDevNull(root string) error {
	target := filepath.Join(root, "dev", "null")
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := unix.Mount("/dev/null", target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /dev/null: %w", err)
	}
	return nil
}

// pivot makes root the root of this mount namespace, detaches the old one and
// makes the new one read-only.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// pivot_root(".", ".") stacks the old root on the new one; see
	// pivot_root(2), NOTES.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("", "/", "", flags, ""); err != nil {
		return fmt.Errorf("make root read-only: %w", err)
	}
	return nil
}
