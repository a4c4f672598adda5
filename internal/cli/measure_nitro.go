package cli

import (
	"encoding/hex"

	"github.com/google/renameio/v2"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro/eif"
)

// measureNitro computes the registers of an enclave of AWS Nitro from its image, or
// from its parts, whose image it writes if it is told to.
func measureNitro(f vmFlags) (measured, error) {
	image, err := f.enclaveImage()
	if err != nil {
		return measured{}, err
	}
	p, err := eif.Measure(image)
	if err != nil {
		return measured{}, &coded{status: exitRefused, code: "image", err: err}
	}
	if f.write != "" {
		b, err := image.Encode()
		if err != nil {
			return measured{}, err
		}
		if err := renameio.WriteFile(f.write, b, 0o644); err != nil {
			return measured{}, err
		}
	}
	m := measured{TEE: tee.Nitro, Measurement: p.Measurement(), PCRs: map[string]string{}}
	for name, v := range map[string]eif.PCR{"0": p.PCR0, "1": p.PCR1, "2": p.PCR2, "8": p.PCR8} {
		m.PCRs[name] = hex.EncodeToString(v[:])
	}
	return m, nil
}

func (f *vmFlags) enclaveImage() (eif.Image, error) {
	if f.eif != "" {
		if f.kernel != "" || f.initrd != nil || f.cmdline != "" || f.write != "" {
			return eif.Image{}, usageError("--eif is a whole image", "leave --kernel, --initrd, --cmdline and --write out")
		}
		b, err := readBounded(f.eif, maxBootFile)
		if err != nil {
			return eif.Image{}, err
		}
		image, err := eif.Parse(b)
		if err != nil {
			return eif.Image{}, &coded{status: exitRefused, code: "image", err: err}
		}
		return image, nil
	}
	if f.kernel == "" || len(f.initrd) == 0 {
		return eif.Image{}, usageError("--eif is missing", "name an enclave image file, or its parts: --kernel, --cmdline and --initrd, the one that starts the others first")
	}
	image := eif.Image{CommandLine: f.cmdline, Metadata: []byte("{}")}
	var err error
	if image.Kernel, err = readBounded(f.kernel, maxBootFile); err != nil {
		return eif.Image{}, err
	}
	for _, path := range f.initrd {
		disk, err := readBounded(path, maxBootFile)
		if err != nil {
			return eif.Image{}, err
		}
		image.RAMDisks = append(image.RAMDisks, disk)
	}
	return image, nil
}
