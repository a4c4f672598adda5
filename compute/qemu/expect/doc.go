// Package expect computes, before anything is started and on any machine, what a TPM
// will have in its registers when QEMU has booted a kernel directly with OVMF: PCR 0
// to 9 of the SHA-256 bank, from the firmware, the kernel, the initial RAM disk, the
// command line, and the size of the machine. [Of] is the whole of it.
//
// Each register is computed from what is measured into it and from no recording:
//
//	PCR 0  the firmware: its version, its PEI volume as it lies in memory when it is
//	       measured, its DXE volume
//	PCR 1  the boot options of the firmware
//	PCR 4  the kernel, as QEMU hands it over, and that it was called
//	PCR 5  that the firmware ended
//	PCR 7  secure boot, which is off
//	PCR 9  the command line and the initial RAM disk
//
// and in most of them the end of what the firmware measures. PCR 0 and 4 depend on
// the size of the machine: the PEI volume keeps what it finds out in variables that
// lie in it, and QEMU writes the address of the RAM disk into the kernel.
//
// The sources are "TCG PC Client Platform Firmware Profile" (1.05) section 3.3.4 for
// what belongs where, "UEFI Platform Initialization Specification" (1.7) volume 3 for
// volumes, "Windows Authenticode Portable Executable Signature Format" (1.0) for the
// kernel's digest, and for the rest what edk2 and QEMU do, which boots in the tests
// confirm.
//
// # What it protects against
//
// Reference values that the machine to be appraised has made itself, and values that
// nobody can explain: [PCRs.Differences] says what each register that differs is of.
//
// # What it does not protect against
//
// The host: a virtual TPM is its own, and it can have any value it likes in it.
// Firmware that is not known here ([ErrFirmware]): where it keeps its variables is
// different in each build. Machines with QEMU's other processors than "max" of its
// own emulation, with secure boot, or with a kernel that is not booted directly.
package expect
