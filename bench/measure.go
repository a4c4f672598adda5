package main

import (
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/tee/nitro/eif"
	"github.com/cloister-cc/cloister/tee/snp/measure"
)

// measure is measurements of virtual machines, computed offline, beside the digests in
// them: everything that is measured has to be hashed once, for Nitro's two registers
// twice.
func (b *bench) measure() ([]figure, error) {
	end, err := os.ReadFile(filepath.Join(b.root, "tee", "snp", "measure", "testdata", "AmdSev-end.bin"))
	if err != nil {
		return nil, err
	}
	firmware := append(make([]byte, 4<<20-len(end)), end...)
	guest := measure.Guest{Firmware: firmware, VCPUs: 4, CPU: measure.CPUs()["EPYC-Milan"], Features: 1, VMM: measure.QEMU}
	image := eif.Image{Kernel: make([]byte, 8<<20), RAMDisks: [][]byte{make([]byte, 8<<20)}, Metadata: []byte("{}")}
	var failed error
	note := func(err error) { failed = errors.Join(failed, err) }
	snp, snpLimit := pair(func() {
		_, err := measure.Launch(guest)
		note(err)
	}, func() { sha512.Sum384(firmware) })
	nitro, nitroLimit := pair(func() {
		_, err := eif.Measure(image)
		note(err)
	}, func() {
		for range 2 {
			h := sha512.New384()
			h.Write(image.Kernel)
			h.Write(image.RAMDisks[0])
			h.Sum(nil)
		}
	})
	const milli = 1e6
	return []figure{
		{Name: "SEV-SNP launch digest, 4 MiB of firmware, 4 processors", Value: snp / milli, Unit: "ms", Against: "SHA-384 of the firmware", Limit: snpLimit / milli, Ratio: snp / snpLimit},
		{Name: "registers of an enclave image of 16 MiB", Value: nitro / milli, Unit: "ms", Against: "SHA-384 of it, twice", Limit: nitroLimit / milli, Ratio: nitro / nitroLimit},
	}, failed
}
