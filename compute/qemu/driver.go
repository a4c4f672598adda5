package qemu

import (
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Driver starts virtual machines with an emulated TPM. It is safe for concurrent use.
type Driver struct{ cfg Config }

// Config says where a [Driver] finds things.
type Config struct {
	// Platform is where the platform of the software TEE listens: the maker of the
	// emulated TPMs.
	Platform string
	// Cache is a directory for initial RAM disks, which many machines share; empty
	// keeps none, which is enough to measure.
	Cache string
	// Kernel is the file of the kernel to boot, with its modules beside it or in
	// /lib/modules; empty means the newest that is installed.
	Kernel string
}

// New returns a driver. What is missing shows when it is used.
func New(cfg Config) *Driver { return &Driver{cfg: cfg} }

// Kind returns tee.TPM.
func (d *Driver) Kind() tee.Kind { return tee.TPM }

// find looks for what machines of this release need.
func (d *Driver) find() (files, error) {
	f, err := find(d.cfg.Kernel)
	if err == nil {
		err = checkStatic(ownProgram)
	}
	if err != nil {
		return files{}, unavailable(err)
	}
	return f, nil
}

// unavailable is the error for a host that cannot run machines.
func unavailable(err error) error {
	return &tee.Error{Code: compute.CodeNoDriver, Op: "run virtual machines", Err: err, Hint: "see what is missing: cloister doctor"}
}

// Command lines of the kernel: it ends when it panics, and has memory for secrets that
// it takes out of its own map (memfd_secret(2)). With debug the host sees what it says.
const (
	commandLine      = "panic=-1 quiet loglevel=0 secretmem.enable=1"
	debugCommandLine = "panic=-1 secretmem.enable=1 console=ttyS0"
)

func commandLineOf(d launch.Document) string {
	if d.Debug {
		return debugCommandLine
	}
	return commandLine
}

// Sizes of machines.
const (
	MinMemory = 256 // MiB
	MaxMemory = 1 << 20
	MaxVCPUs  = 64
	// overhead is what a machine needs beside its program, in MiB: the kernel, this
	// program three times, and what it keeps in memory.
	overhead = 160
)

// SizeOf is the size of a machine for a spec.
func SizeOf(spec compute.Spec) (compute.Size, error) {
	s := spec.Size
	if s.VCPUs == 0 {
		s.VCPUs = 1
	}
	need := int(spec.Launch.MemoryMiB) + overhead
	if s.MemoryMiB == 0 {
		s.MemoryMiB = max(MinMemory, (need+63)/64*64)
	}
	switch {
	case s.VCPUs < 1 || s.VCPUs > MaxVCPUs:
		return s, fmt.Errorf("%d processors: want 1 to %d", s.VCPUs, MaxVCPUs)
	case s.MemoryMiB < MinMemory || s.MemoryMiB > MaxMemory:
		return s, fmt.Errorf("a machine of %d MiB: want %d to %d", s.MemoryMiB, MinMemory, MaxMemory)
	case s.MemoryMiB < need:
		return s, fmt.Errorf("a machine of %d MiB is too small for a program of %d MiB: want at least %d", s.MemoryMiB, spec.Launch.MemoryMiB, need)
	}
	return s, nil
}

// Expect computes PCR 0 to 9 of the machine.
func (d *Driver) Expect(spec compute.Spec) (compute.Expectation, error) {
	if spec.Launch.Image.Kind == launch.Builtin {
		return compute.Expectation{}, errors.New("the platform's own roles do not run in virtual machines")
	}
	// What it takes to measure a machine is a hundred times what a supervisor holds.
	defer debug.FreeOSMemory()
	size, err := SizeOf(spec)
	if err != nil {
		return compute.Expectation{}, err
	}
	f, err := d.find()
	if err != nil {
		return compute.Expectation{}, err
	}
	g := expect.Guest{CommandLine: commandLineOf(spec.Launch), MemoryMiB: size.MemoryMiB, VCPUs: size.VCPUs}
	var err1, err2, err3 error
	g.Firmware, err1 = readBounded(firmwareFile, expect.MaxFirmware)
	g.Kernel, err2 = readBounded(f.kernel, maxKernel)
	g.Initrd, err3 = d.ramDisk(f)
	if err := errors.Join(err1, err2, err3); err != nil {
		return compute.Expectation{}, unavailable(err)
	}
	pcrs, err := expect.Of(g)
	if err != nil {
		return compute.Expectation{}, unavailable(err)
	}
	e := compute.Expectation{Measurement: pcrs.Measurement(), Simulated: true, Size: size, Registers: map[string]string{}}
	for i, v := range pcrs {
		e.Registers[strconv.Itoa(i)] = hex.EncodeToString(v[:])
	}
	return e, nil
}

// Compare names the registers that differ, and what is measured into them.
func (d *Driver) Compare(e compute.Expectation, ev tee.Evidence) []tee.Failure {
	s, err := tpm.ParseStatement(ev.Data)
	if err != nil {
		return tpm.Failures(err)
	}
	var want expect.PCRs
	for i := range want {
		b, err := hex.DecodeString(e.Registers[strconv.Itoa(i)])
		if err != nil || len(b) != len(want[i]) {
			return nil // it was not computed
		}
		want[i] = [32]byte(b)
	}
	var out []tee.Failure
	for _, d := range want.Differences(s.PCRs[eventlog.SHA256]) {
		out = append(out, tee.Failure{Code: tee.CodeBinding, Claim: fmt.Sprintf("PCR %d", d.PCR), Want: d.Want, Got: d.Got, Hint: d.Of})
	}
	return out
}

// Interface guards.
var (
	_ compute.Driver  = (*Driver)(nil)
	_ compute.Machine = (*instance)(nil)
)
