package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountAll gives the machine a root that processes can leave, and the kernel's file
// systems.
func mountAll() error {
	// No process can pivot away from the first root file system that there is
	// (pivot_root(2), EINVAL), so a bind mount of it becomes the root.
	for _, step := range []func() error{
		func() error { return unix.Mount("/", "/root", "", unix.MS_BIND, "") },
		func() error { return unix.Chdir("/root") },
		func() error { return unix.Mount(".", "/", "", unix.MS_MOVE, "") },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("make root: %w", err)
		}
	}
	const guarded = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	for _, m := range []struct {
		kind, dir string
		flags     uintptr
	}{
		{"proc", "/proc", guarded}, {"sysfs", "/sys", guarded}, {"devtmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"securityfs", "/sys/kernel/security", guarded}, {"cgroup2", "/sys/fs/cgroup", guarded},
	} {
		if err := unix.Mount(m.kind, m.dir, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.kind, err)
		}
	}
	for path, value := range map[string]string{
		// The host could ask for registers and memory by a break on the serial line.
		"/proc/sys/kernel/sysrq":                "0",
		"/proc/sys/kernel/dmesg_restrict":       "1",
		"/sys/fs/cgroup/cgroup.subtree_control": "+memory +pids",
	} {
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			return fmt.Errorf("set up kernel: %w", err)
		}
	}
	return nil
}

// loadModules loads the drivers of a directory in the order of their names.
func loadModules(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("load drivers: %w", err)
	}
	for _, file := range files {
		if err := loadModule(filepath.Join(dir, file.Name())); err != nil {
			return fmt.Errorf("load driver %s: %w", file.Name(), err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil // this kernel has it built in
	}
	return err
}
