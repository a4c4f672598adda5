package cli

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	csoftware "github.com/cloister-cc/cloister/compute/software"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
)

// measured is the output of `instance measure`.
type measured struct {
	TEE           tee.Kind        `json:"tee"`
	Simulated     bool            `json:"simulated"`
	Measurement   tee.Measurement `json:"measurement"`
	LaunchDigest  string          `json:"launch_digest"`
	RuntimeDigest string          `json:"runtime_digest"`
	ImageKind     string          `json:"image_kind"`
	ImageDigest   string          `json:"image_digest"`
	Debug         bool            `json:"debug"`
	// PCRs are the registers of the SHA-256 bank that a machine with a TPM will have.
	PCRs map[string]string `json:"pcrs,omitempty"`
}

func (a *app) measureCommand() *cobra.Command {
	var flags launchFlags
	var vm vmFlags
	cmd := &cobra.Command{
		Use: "measure [IMAGE [-- ARG...]]", Short: "Compute the expected measurement, offline, before anything starts",
		Long: "Measure computes what the evidence of a launch will carry, on any machine and before anything\n" +
			"starts. With -o json it is a reference value: cloister attest policy fill.\n\n" +
			"For a virtual machine with a TPM (tpm-vm) it computes PCR 0 to 9: with an IMAGE of the machine that\n" +
			"this release runs it in, where the image is in the launch digest and in no register; else of a\n" +
			"machine that QEMU boots directly with OVMF, from its firmware, size, kernel, initial RAM disk and\n" +
			"command line. The host of a virtual TPM can give it any value.\n\n" +
			"For AWS Nitro it computes PCR 0 to 2 and 8 of an enclave image file, or of its parts.\n\n" +
			"For AMD SEV-SNP it computes the launch digest of a virtual machine from its firmware, processors\n" +
			"and, with measured direct boot, kernel, initial RAM disk and command line. The digest of the\n" +
			"launch document of an IMAGE is what HOST_DATA has to be.",
		Example: "  cloister instance measure app.wasm --in data=records.enc --secret data-key=hospital-a/records\n" +
			"  cloister instance measure --tee sev-snp --firmware OVMF.amdsev.fd --cpu EPYC-Milan --vcpus 4 \\\n" +
			"    --kernel bzImage --initrd initrd --cmdline console=ttyS0",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := measureLaunch(&flags, vm, args)
			if err != nil {
				return err
			}
			return a.show(m, m.table)
		},
	}
	flags.register(cmd)
	vm.register(cmd.Flags())
	return cmd
}

func measureLaunch(flags *launchFlags, vm vmFlags, args []string) (measured, error) {
	kind, err := tee.ParseKind(flags.tee)
	if err != nil {
		return measured{}, usageError(err.Error(), "")
	}
	var p *prepared
	if len(args) > 0 {
		ready, err := flags.prepare(args[0], args[1:])
		if err != nil {
			return measured{}, err
		}
		p = &ready
	}
	switch {
	case kind == tee.SNP:
		return measureSNP(vm, p)
	case kind == tee.Nitro && p != nil:
		return measured{}, usageError("the registers of an enclave do not have an IMAGE in them", "leave it out")
	case kind == tee.TPM && p != nil:
		return measureMachine(vm, *p)
	case kind == tee.Nitro:
		return measureNitro(vm)
	case kind == tee.TPM:
		return measureTPM(vm)
	case kind != tee.Software:
		return measured{}, usageError(fmt.Sprintf("this build measures no %s launches", kind), "use --tee software, sev-snp, tpm-vm or nitro")
	case p == nil:
		return measured{}, usageError("IMAGE is missing", "name a Wasm module or a static executable")
	}
	return measureSoftware(*p)
}

func (m measured) table(w io.Writer) {
	row := func(name, format string, v ...any) { fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, v...)) }
	row("Measurement", "%s", m.Measurement)
	if m.LaunchDigest != "" {
		row("Launch digest", "%s", m.LaunchDigest)
	}
	if m.RuntimeDigest != "" {
		row("Runtime digest", "%s", m.RuntimeDigest)
	}
	if m.ImageDigest != "" {
		row("Image", "%s sha256:%s", m.ImageKind, m.ImageDigest)
	}
	for _, name := range m.registers() {
		row("PCR "+name, "%s  %s", m.PCRs[name], m.registerOf(name))
	}
	if m.Simulated {
		row("TEE", "%s (simulated)", m.TEE)
	} else {
		row("TEE", "%s", m.TEE)
	}
}

func measureSoftware(p prepared) (measured, error) {
	runtime, err := software.RuntimeDigest()
	if err != nil {
		return measured{}, err
	}
	digest, err := p.spec.Launch.Digest()
	if err != nil {
		return measured{}, err
	}
	m, err := csoftware.New("").Expect(p.spec)
	if err != nil {
		return measured{}, err
	}
	return measured{
		TEE: p.spec.TEE, Simulated: true, Measurement: m.Measurement, LaunchDigest: hex.EncodeToString(digest[:]), RuntimeDigest: hex.EncodeToString(runtime[:]),
		ImageKind: string(p.spec.Launch.Image.Kind), ImageDigest: hex.EncodeToString(p.spec.Launch.Image.Digest), Debug: p.spec.Launch.Debug,
	}, nil
}
