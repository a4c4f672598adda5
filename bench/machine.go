package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/initramfs"
	"github.com/cloister-cc/cloister/internal/tinywasm"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// machine is the time from the start of a virtual machine to attested READY, and what it
// weighs, beside a machine with the same firmware, kernel and TPM whose first process
// turns it off at once: nothing can boot faster there.
func (b *bench) machine() ([]figure, error) {
	kernel := os.Getenv("CLOISTER_VM_KERNEL")
	if kernel == "" || !b.runsMachines(kernel) {
		fmt.Fprintln(os.Stderr, "skipped: this machine runs no virtual ones (cloister doctor); make vm gets what it takes, CLOISTER_VM_KERNEL names a kernel")
		return nil, nil
	}
	u, err := b.up("machine", "--vm-kernel", kernel)
	if err != nil {
		return nil, err
	}
	defer func() { _ = u.down() }()
	n := 5
	if b.quick {
		n = 1
	}
	var ready, bare, memory []float64
	for i := range n {
		took, rss, err := u.boot("m" + strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		least, err := b.bareBoot(u.dir, kernel)
		if err != nil {
			return nil, err
		}
		ready, memory, bare = append(ready, took), append(memory, rss), append(bare, least)
	}
	took, least, rss := percentile(ready, 50), percentile(bare, 50), percentile(memory, 100)
	return []figure{
		{Name: fmt.Sprintf("virtual machine (emulated), start to attested READY, p50 of %d", n), Value: took, Unit: "s", Against: "the same machine, booted and turned off", Limit: least, Ratio: took / least, Bar: "<= 15 s"},
		{Name: "virtual machine (emulated), most memory of QEMU", Value: rss, Unit: "MiB", Against: "memory of the machine", Limit: machineMemory, Ratio: rss / machineMemory, Bar: "<= 320 MiB"},
	}, nil
}

// machineMemory is that of the machines here, in MiB.
const machineMemory = 256

// runsMachines asks the doctor.
func (b *bench) runsMachines(kernel string) bool {
	out, err := exec.Command(b.exe, "doctor", "-o", "json", "--vm-kernel", kernel).Output()
	if err != nil {
		return false
	}
	var list []compute.Capability
	if json.Unmarshal(out, &list) != nil {
		return false
	}
	for _, c := range list {
		if c.TEE == tee.TPM {
			return c.Available
		}
	}
	return false
}

// boot starts a machine, and returns the seconds to READY, and the most memory of its
// QEMU in MiB.
func (u *up) boot(name string) (seconds, mebibytes float64, err error) {
	module := tinywasm.Idle()
	doc := launch.New(launch.Wasm, module)
	doc.MemoryMiB = 64
	spec := compute.Spec{TEE: tee.TPM, Launch: doc, Restart: compute.RestartNever}
	ctx := context.Background()
	if _, err := u.host.Create(ctx, client.CreateRequest{Name: name, Spec: spec, Start: true}, bytes.NewReader(module), nil); err != nil {
		return 0, 0, err
	}
	i, err := u.host.Wait(ctx, name, client.UntilRunning)
	if err == nil && i.Status.State != compute.Running {
		err = fmt.Errorf("%s is %s: %s %s", name, i.Status.State, i.Status.Code, i.Status.Message)
	}
	if err != nil {
		return 0, 0, err
	}
	mebibytes, err = peakOf(filepath.Join("instances", i.ID, "variables.fd"))
	return i.Status.ReadyAt.Sub(i.Status.StartedAt).Seconds(), mebibytes, errors.Join(err, u.host.Delete(ctx, name))
}

// peakOf is the most memory of the process that has a text in its command line, in MiB.
func peakOf(text string) (float64, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte(text)) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err != nil {
			return 0, err
		}
		for l := range strings.Lines(string(status)) {
			var kibibytes float64
			if _, err := fmt.Sscanf(l, "VmHWM: %f kB", &kibibytes); err == nil {
				return kibibytes / 1024, nil
			}
		}
	}
	return 0, fmt.Errorf("no process with %s", text)
}

// bareBoot boots a machine whose first process turns it off, and returns the seconds.
func (b *bench) bareBoot(dir, kernel string) (float64, error) {
	init := filepath.Join(b.dir, "guest")
	if _, err := os.Stat(init); err != nil {
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", init, "./compute/qemu/expect/testdata/guest")
		cmd.Dir, cmd.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
	}
	program, err := os.ReadFile(init)
	if err != nil {
		return 0, err
	}
	const device = fs.ModeDevice | fs.ModeCharDevice
	disk, err := initramfs.Build([]initramfs.File{
		{Path: "init", Mode: 0o755, Data: program}, {Path: "dev/console", Mode: device | 0o600, Major: 5, Minor: 1}, {Path: "dev/null", Mode: device | 0o666, Major: 1, Minor: 3},
	})
	if err != nil {
		return 0, err
	}
	state, err := os.MkdirTemp(dir, "bare-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(state) }()
	ramDisk, variables, socket := filepath.Join(state, "initrd"), filepath.Join(state, "variables.fd"), filepath.Join(state, "s")
	empty, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err = errors.Join(err, os.WriteFile(ramDisk, disk, 0o600), os.WriteFile(variables, empty, 0o600)); err != nil {
		return 0, err
	}
	tpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+socket, "--terminate")
	if err := tpm.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = tpm.Process.Kill(); _ = tpm.Wait() }()
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		pause()
	}
	machine := exec.Command("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-net", "none", "-M", "q35", "-accel", "tcg,tb-size=32", "-cpu", "max",
		"-m", strconv.Itoa(machineMemory), "-kernel", kernel, "-initrd", ramDisk, "-append", "panic=-1 quiet loglevel=0",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,unit=1,file="+variables,
		"-chardev", "socket,id=tpm,path="+socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	start := time.Now()
	if out, err := machine.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return time.Since(start).Seconds(), nil
}
