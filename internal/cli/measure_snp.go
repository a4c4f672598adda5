package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp/measure"
)

// vmFlags say which virtual machine is to be measured.
type vmFlags struct {
	firmware, kernel, initrd, cmdline string
	cpu, features, vmm                string
	vcpus                             int
}

func (f *vmFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.firmware, "firmware", "", "sev-snp: firmware image (OVMF)")
	flags.IntVar(&f.vcpus, "vcpus", 1, "sev-snp: virtual processors")
	flags.StringVar(&f.cpu, "cpu", "", "sev-snp: model of the processors as QEMU names it, for example EPYC-Milan, or their signature, for example 0xa00f11")
	flags.StringVar(&f.features, "guest-features", "0x1", "sev-snp: SEV_FEATURES that the guest is launched with")
	flags.StringVar(&f.vmm, "vmm", string(measure.QEMU), "sev-snp: hypervisor: qemu, ec2 or gce")
	flags.StringVar(&f.kernel, "kernel", "", "sev-snp: kernel that is booted directly (QEMU's kernel-hashes=on)")
	flags.StringVar(&f.initrd, "initrd", "", "sev-snp: initial RAM disk of the kernel")
	flags.StringVar(&f.cmdline, "cmdline", "", "sev-snp: command line of the kernel")
}

// measureSNP computes the launch digest of a guest of SEV-SNP. Its launch document, if
// there is one, is what HOST_DATA has to be.
func measureSNP(f vmFlags, p *prepared) (measured, error) {
	g, err := f.guest()
	if err != nil {
		return measured{}, err
	}
	digest, err := measure.Launch(g)
	if err != nil {
		return measured{}, &coded{status: exitUsage, code: "guest", err: err}
	}
	m := measured{TEE: tee.SNP, Measurement: digest[:]}
	if p == nil {
		return m, nil
	}
	launched, err := p.spec.Launch.Digest()
	if err != nil {
		return measured{}, err
	}
	if p.spec.Launch.Debug {
		return measured{}, usageError("a guest's debug mode is in its policy and not in what is measured", "leave --debug out")
	}
	m.LaunchDigest, m.ImageKind, m.ImageDigest = hex.EncodeToString(launched[:]), string(p.spec.Launch.Image.Kind), hex.EncodeToString(p.spec.Launch.Image.Digest)
	return m, nil
}

func (f *vmFlags) guest() (g measure.Guest, err error) {
	if f.firmware == "" {
		return g, usageError("--firmware is missing", "name the OVMF image that the guest starts from: --firmware OVMF.fd")
	}
	if f.kernel == "" && (f.initrd != "" || f.cmdline != "") {
		return g, usageError("--initrd and --cmdline are of a kernel that is booted directly", "name it: --kernel FILE")
	}
	g = measure.Guest{VCPUs: f.vcpus, VMM: measure.VMM(f.vmm)}
	if g.Features, err = strconv.ParseUint(f.features, 0, 64); err != nil {
		return g, usageError(fmt.Sprintf("--guest-features %q: want a number, for example 0x1", f.features), "")
	}
	if g.CPU, err = f.processor(); err != nil {
		return g, err
	}
	if g.Firmware, err = readBounded(f.firmware, measure.MaxFirmware); err != nil {
		return g, err
	}
	if f.kernel == "" {
		return g, nil
	}
	g.Kernel = &measure.Kernel{CommandLine: f.cmdline}
	if g.Kernel.Image, err = readBounded(f.kernel, maxBootFile); err == nil && f.initrd != "" {
		g.Kernel.Initrd, err = readBounded(f.initrd, maxBootFile)
	}
	return g, err
}

// processor reads the model or signature. Only QEMU's guests have one.
func (f *vmFlags) processor() (measure.CPU, error) {
	if f.cpu == "" {
		if measure.VMM(f.vmm) != measure.QEMU {
			return 0, nil
		}
		return 0, usageError("--cpu is missing", "name the processor as QEMU's -cpu does: --cpu EPYC-Milan")
	}
	if n, err := strconv.ParseUint(f.cpu, 0, 32); err == nil {
		return measure.CPU(n), nil
	}
	c, err := measure.ParseCPU(f.cpu)
	if err != nil {
		return 0, usageError("--cpu: "+err.Error(), "")
	}
	return c, nil
}

// maxBootFile bounds a kernel or an initial RAM disk in bytes.
const maxBootFile = 1 << 30

// readBounded reads a file that is no larger than that.
func readBounded(path string, most int64) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &coded{status: exitUsage, code: "file", err: err}
	}
	b, err = io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, usageError(fmt.Sprintf("%s: more than %d bytes", path, most), "")
	}
	return b, nil
}
