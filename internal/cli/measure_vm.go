package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp/measure"
)

// defaultMemory is that of a machine, in MiB.
const defaultMemory = 256

// vmFlags say which virtual machine is to be measured.
type vmFlags struct {
	firmware, kernel, cmdline string
	initrd                    []string
	eif, write                string
	cpu, features, vmm        string
	vcpus, memory             int
}

func (f *vmFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.firmware, "firmware", "", "virtual machine: firmware image (OVMF)")
	flags.IntVar(&f.vcpus, "vcpus", 1, "virtual machine: virtual processors")
	flags.IntVar(&f.memory, "vm-memory", defaultMemory, "tpm-vm: memory of the virtual machine in MiB; with an IMAGE, by default what its program needs, and 160")
	flags.StringVar(&f.cpu, "cpu", "", "sev-snp: model of the processors as QEMU names it, for example EPYC-Milan, or their signature, for example 0xa00f11")
	flags.StringVar(&f.features, "guest-features", "0x1", "sev-snp: SEV_FEATURES that the guest is launched with")
	flags.StringVar(&f.vmm, "vmm", string(measure.QEMU), "sev-snp: hypervisor: qemu, ec2 or gce")
	flags.StringVar(&f.kernel, "kernel", "", "virtual machine: kernel that is booted directly")
	flags.StringArrayVar(&f.initrd, "initrd", nil, "virtual machine: initial RAM disk of the kernel; repeatable for nitro")
	flags.StringVar(&f.eif, "eif", "", "nitro: enclave image file")
	flags.StringVar(&f.write, "write", "", "nitro: write the image of --kernel, --cmdline and --initrd to this file")
	flags.StringVar(&f.cmdline, "cmdline", "", "virtual machine: command line of the kernel")
}

// disk is the initial RAM disk where there can be one at most.
func (f *vmFlags) disk() (string, error) {
	if len(f.initrd) > 1 {
		return "", usageError("--initrd is given more than once", "only enclaves of Nitro have several")
	}
	return strings.Join(f.initrd, ""), nil
}

// measureMachine computes the registers of the machine that this release runs an image
// in.
func measureMachine(f vmFlags, p prepared) (measured, error) {
	if f.firmware != "" || f.cmdline != "" || len(f.initrd) > 0 {
		return measured{}, usageError("the machine of an IMAGE has a firmware, RAM disk and command line of its own", "leave out --firmware, --initrd and --cmdline, or the IMAGE")
	}
	p.spec.Size = compute.Size{VCPUs: f.vcpus}
	if f.memory != defaultMemory {
		p.spec.Size.MemoryMiB = f.memory
	}
	if err := checkSize(p.spec); err != nil {
		return measured{}, err
	}
	e, err := qemu.New(qemu.Config{Kernel: f.kernel}).Expect(p.spec)
	if err != nil {
		return measured{}, err
	}
	digest, err := p.spec.Launch.Digest()
	if err != nil {
		return measured{}, err
	}
	return measured{
		TEE: tee.TPM, Simulated: e.Simulated, Measurement: e.Measurement, PCRs: e.Registers, LaunchDigest: hex.EncodeToString(digest[:]),
		ImageKind: string(p.spec.Launch.Image.Kind), ImageDigest: hex.EncodeToString(p.spec.Launch.Image.Digest), Debug: p.spec.Launch.Debug,
	}, nil
}

// measureTPM computes the registers of the TPM of a machine that QEMU boots.
func measureTPM(f vmFlags) (measured, error) {
	g := expect.Guest{MemoryMiB: f.memory, VCPUs: f.vcpus, CommandLine: f.cmdline}
	initrd, err := f.disk()
	if err != nil {
		return measured{}, err
	}
	for _, file := range []struct {
		flag, path string
		most       int64
		into       *[]byte
	}{{"firmware", f.firmware, expect.MaxFirmware, &g.Firmware}, {"kernel", f.kernel, maxBootFile, &g.Kernel}, {"initrd", initrd, maxBootFile, &g.Initrd}} {
		if file.path == "" {
			return measured{}, usageError("--"+file.flag+" is missing", "a machine is measured from its --firmware, --kernel and --initrd")
		}
		if *file.into, err = readBounded(file.path, file.most); err != nil {
			return measured{}, err
		}
	}
	p, err := expect.Of(g)
	if err != nil {
		c := &coded{status: exitUsage, code: "guest", err: err}
		if errors.Is(err, expect.ErrFirmware) {
			c.code, c.hint = "firmware", "known are: "
			for digest, name := range expect.Known() {
				c.hint += name + " (SHA-256 " + digest + ")"
			}
		}
		return measured{}, c
	}
	m := measured{TEE: tee.TPM, Measurement: p.Measurement(), PCRs: map[string]string{}}
	for i, v := range p {
		m.PCRs[strconv.Itoa(i)] = hex.EncodeToString(v[:])
	}
	return m, nil
}

// maxBootFile bounds a kernel or an initial RAM disk in bytes.
const maxBootFile = 1 << 30

// readBounded reads a file, and refuses one that is larger than that.
func readBounded(path string, most int64) ([]byte, error) {
	b, err := readLimited(path, most+1)
	if err != nil {
		return nil, &coded{status: exitUsage, code: "file", err: err}
	}
	if int64(len(b)) > most {
		return nil, usageError(fmt.Sprintf("%s: more than %d bytes", path, most), "")
	}
	return b, nil
}
