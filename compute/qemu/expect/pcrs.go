package expect

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/cloister-cc/cloister/tee"
)

// Guest is a machine that is to be booted.
type Guest struct {
	// Firmware is an OVMF image without its variables (OVMF_CODE_4M.fd). The variables
	// are those of a new machine, without keys of secure boot.
	Firmware []byte
	// MemoryMiB is QEMU's -m, VCPUs its -smp.
	MemoryMiB, VCPUs int
	// Kernel, Initrd and CommandLine are QEMU's -kernel, -initrd, which there has to be,
	// and -append.
	Kernel, Initrd []byte
	CommandLine    string
}

// Bounds of a guest.
const (
	MinMemoryMiB = 128
	MaxMemoryMiB = 256 << 10
	MaxVCPUs     = 64
)

// The errors of [Of].
var (
	// ErrGuest means that a guest cannot be booted as it is described.
	ErrGuest = errors.New("guest that cannot be measured")
	// ErrFirmware means that the firmware is not among those that are known.
	ErrFirmware = errors.New("firmware that is not known")
)

// Registers is how many registers are computed: PCR 0 to 9.
const Registers = 10

// PCRs are the values of PCR 0 to 9 of the SHA-256 bank.
type PCRs [Registers][sha256.Size]byte

// Measurement is the measurement of evidence with these registers: the SHA-256 of
// their values after each other, as package tee/tpm has it.
func (p PCRs) Measurement() tee.Measurement {
	h := sha256.New()
	for _, v := range p {
		h.Write(v[:])
	}
	return h.Sum(nil)
}

// extend is what a TPM does with a digest.
func (p *PCRs) extend(register int, digest [sha256.Size]byte) {
	p[register] = sha256.Sum256(append(bytes.Clone(p[register][:]), digest[:]...))
}

func (p *PCRs) measure(register int, data []byte) { p.extend(register, sha256.Sum256(data)) }

// Of returns the registers of a guest once its kernel runs. The error is an [ErrGuest]
// or an [ErrFirmware].
func Of(g Guest) (PCRs, error) {
	if g.MemoryMiB < MinMemoryMiB || g.MemoryMiB > MaxMemoryMiB || g.VCPUs < 1 || g.VCPUs > MaxVCPUs {
		return PCRs{}, fmt.Errorf("%w: %d MiB and %d processors: want %d to %d MiB and 1 to %d", ErrGuest, g.MemoryMiB, g.VCPUs, MinMemoryMiB, MaxMemoryMiB, MaxVCPUs)
	}
	if len(g.Initrd) == 0 {
		return PCRs{}, fmt.Errorf("%w: no initial RAM disk", ErrGuest)
	}
	pei, dxe, err := volumes(g)
	if err != nil {
		return PCRs{}, err
	}
	kernel, err := kernelDigest(g)
	if err != nil {
		return PCRs{}, err
	}
	loadOptions, err := text16(g.CommandLine + " initrd=initrd")
	if err != nil {
		return PCRs{}, err
	}
	var p PCRs
	p.measure(0, []byte{0, 0}) // the version, an empty text
	p.measure(0, pei)
	p.measure(0, dxe)
	for _, v := range secureBootOff() {
		p.measure(7, v)
	}
	for _, v := range bootOptions() {
		p.measure(1, v)
	}
	p.extend(4, kernel)
	p.measure(4, []byte("Calling EFI Application from Boot Option"))
	for _, register := range []int{0, 1, 2, 3, 4, 5, 6, 7} {
		p.measure(register, make([]byte, 4)) // EV_SEPARATOR
	}
	p.measure(9, loadOptions)
	p.measure(9, g.Initrd)
	p.measure(5, []byte("Exit Boot Services Invocation"))
	p.measure(5, []byte("Exit Boot Services Returned with Success"))
	return p, nil
}

// text16 is a text as UEFI has it: UTF-16, little endian, with a zero at its end.
func text16(s string) ([]byte, error) {
	for _, c := range []byte(s) {
		if c == 0 || c > 0x7F {
			return nil, fmt.Errorf("%w: the command line has other than ASCII characters", ErrGuest)
		}
	}
	return appendText(nil, s+"\x00"), nil
}

// appendText appends a text in UTF-16, little endian.
func appendText(b []byte, s string) []byte {
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// secureBootOff are the variables of secure boot without keys (UEFI_VARIABLE_DATA).
func secureBootOff() [][]byte {
	global := []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	security := []byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	variable := func(guid []byte, name string, data ...byte) []byte {
		b := binary.LittleEndian.AppendUint64(bytes.Clone(guid), uint64(len(name)))
		b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
		return append(appendText(b, name), data...)
	}
	return [][]byte{
		variable(global, "SecureBoot", 0), variable(global, "PK"), variable(global, "KEK"), variable(security, "db"), variable(security, "dbx"),
	}
}

// bootOptions are the boot options of a new machine: their order, which is of one, and
// that one, the menu of the firmware (EFI_LOAD_OPTION).
func bootOptions() [][]byte {
	// The path: the DXE volume, and the file in it.
	const path = "04071400c9bdb87cebf8344faaea3ee4af6516a1" + "0406140021aa2c4614760345836e8ab6f4662331" + "7fff0400"
	p, _ := hex.DecodeString(path)
	option := binary.LittleEndian.AppendUint32(nil, 0x109) // active, hidden, an application
	option = binary.LittleEndian.AppendUint16(option, uint16(len(p)))
	return [][]byte{{0, 0}, append(appendText(option, "UiApp\x00"), p...)}
}
