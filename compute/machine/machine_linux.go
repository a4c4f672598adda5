package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/compute/sandbox"
)

// What the initial RAM disk has, beside the modules, and who makes it (package
// compute/qemu) has to know.
const (
	Path       = "/init"        // this program
	ModulesDir = "/lib/modules" // drivers, loaded in the order of their names
	PortName   = "cloister.0"   // of the virtio-serial port to the host
)

// Directories lists the empty directories that the initial RAM disk has to have.
func Directories() []string { return []string{"cell", "dev", "proc", "root", "sys"} }

// IsFirst reports whether this process is the first one of a machine.
func IsFirst() bool { return os.Getpid() == 1 && len(os.Args) > 0 && os.Args[0] == Path }

// Main runs the machine and turns it off. It does not return.
func Main() {
	if err := run(); err != nil {
		complain(err)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1) // the kernel panics, and its command line says that it restarts then
}

// complain tells the host why there is no agent to say it. Nobody has any secret yet.
func complain(err error) {
	serial, openErr := os.OpenFile("/dev/ttyS0", os.O_WRONLY|unix.O_NOCTTY, 0)
	if openErr != nil {
		return
	}
	fmt.Fprintln(serial, "machine:", err)
	_ = serial.Close()
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := loadModules(ModulesDir); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	tpm, err := openDevice("/dev/tpm0")
	if err != nil {
		return fmt.Errorf("open TPM: %w", err)
	}
	log, err := os.Open("/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		return fmt.Errorf("open the firmware's event log: %w", err)
	}
	output, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open serial line: %w", err)
	}
	memory, err := limits()
	if err != nil {
		return err
	}
	group := sandbox.NewCgroup("cell", memory, maxProcesses)
	cell, err := sandbox.Start(sandbox.Config{
		Root: "/cell", ScratchMiB: int(memory >> 21), Hostname: "instance",
	}, []string{agent.Command, agent.InMachine}, output, []*os.File{port, tpm, log}, group.Add)
	if err != nil {
		return err
	}
	for _, f := range []*os.File{port, tpm, log} {
		_ = f.Close() // the agent's alone from now on
	}
	err = cell.Wait()
	if group.OutOfMemory() {
		return errors.New("the instance reached its memory limit")
	}
	return err
}

// maxProcesses bounds processes and threads of an instance.
const maxProcesses = 256

// kernelMemory is what is left to the kernel and to this process, in bytes.
const kernelMemory = 40 << 20

// limits is how much memory the agent and its program may use together.
func limits() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("ask for memory: %w", err)
	}
	total := info.Totalram * uint64(info.Unit)
	if total < 2*kernelMemory {
		return 0, fmt.Errorf("a machine of %d MiB is too small", total>>20)
	}
	return total - kernelMemory, nil
}

// deviceTime is how long a driver may take to show its device.
const deviceTime = 10 * time.Second

// await calls f until it finds something, for a while.
func await(what string, f func() (*os.File, error)) (*os.File, error) {
	for deadline := time.Now().Add(deviceTime); ; {
		file, err := f()
		if err == nil {
			return file, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // nothing tells of devices here
	}
}

// openDevice opens a device for reads that wait: the TPM's driver gives nothing to
// who reads too early.
func openDevice(path string) (*os.File, error) {
	return await(path, func() (*os.File, error) {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	})
}

// openPort opens the port to the host, by its name.
func openPort() (*os.File, error) {
	return await("port "+PortName+" to the host", func() (*os.File, error) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, path := range names {
			name, err := os.ReadFile(path)
			if err != nil || strings.TrimSpace(string(name)) != PortName {
				continue
			}
			device := filepath.Join("/dev", filepath.Base(filepath.Dir(path)))
			fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil, &os.PathError{Op: "open", Path: device, Err: err}
			}
			return os.NewFile(uintptr(fd), device), nil
		}
		return nil, errors.New("there is none")
	})
}
