package cli

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp/measure"
)

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
	initrd, err := f.disk()
	if err != nil {
		return g, err
	}
	if f.kernel == "" && (initrd != "" || f.cmdline != "") {
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
	if g.Kernel.Image, err = readBounded(f.kernel, maxBootFile); err == nil && initrd != "" {
		g.Kernel.Initrd, err = readBounded(initrd, maxBootFile)
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
