// Package qemu is the compute driver of virtual machines: QEMU boots a kernel and an
// initial RAM disk directly with OVMF, beside an emulated TPM (swtpm) that the
// firmware measures them into. The RAM disk is made here and has this very program in
// it as the first process (package compute/machine), so who knows the release, the
// kernel and the size of the machine knows the measurement ([Driver.Expect], package
// compute/qemu/expect).
//
// The machine reaches its host by one virtio-serial port and has no other device but
// the TPM. Processor emulation (TCG) runs everywhere and needs no privileges.
//
// # What it protects against
//
// A program that wants to get at its host; a machine that was booted differently than
// it was to be: its evidence says so, and nobody gives it secrets.
//
// # What it does not protect against
//
// The host: it can read the memory of a machine under emulation and everything in its
// TPM, whose certificate therefore says that it is emulated. The evidence is simulated,
// and policies for production refuse it.
package qemu
