package measure

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// VMM is a hypervisor, which has its own idea of a processor after a reset.
type VMM string

// The hypervisors whose guests are known.
const (
	QEMU VMM = "qemu" // with KVM
	EC2  VMM = "ec2"  // Amazon's
	GCE  VMM = "gce"  // Google's
)

func (v VMM) known() bool { return slices.Contains([]VMM{QEMU, EC2, GCE}, v) }

// CPU is the signature of a processor: EAX of CPUID Fn0000_0001 (AMD 25481).
type CPU uint32

// MakeCPU returns the signature of a family, model and stepping.
func MakeCPU(family, model, stepping int) CPU {
	low, high := family, 0
	if family > 0xF {
		low, high = 0xF, family-0xF
	}
	return CPU((high&0xFF)<<20 | (model>>4&0xF)<<16 | low<<8 | (model&0xF)<<4 | stepping&0xF)
}

// CPUs are the signatures of the EPYC processors that QEMU has, by the name of the
// model without its version, which does not matter here.
func CPUs() map[string]CPU {
	return map[string]CPU{
		"EPYC": MakeCPU(23, 1, 2), "EPYC-IBPB": MakeCPU(23, 1, 2), "EPYC-Rome": MakeCPU(23, 49, 0), "EPYC-Milan": MakeCPU(25, 1, 1),
		"EPYC-Genoa": MakeCPU(25, 17, 0), "EPYC-Turin": MakeCPU(26, 0, 0),
	}
}

// ParseCPU reads the name of a processor: one of [CPUs], with a version (EPYC-v4) or
// without. The error is an [ErrGuest].
func ParseCPU(name string) (CPU, error) {
	base := name
	if i := len(name) - 3; i > 0 && name[i:i+2] == "-v" && name[i+2] >= '1' && name[i+2] <= '9' {
		base = name[:i]
	}
	if c, ok := CPUs()[base]; ok {
		return c, nil
	}
	return 0, fmt.Errorf("%w: processor %.64q: want EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa or EPYC-Turin", ErrGuest, name)
}

// resetEIP is where the first processor begins.
const resetEIP = 0xFFFFFFF0

// segment is a segment register in a save area.
type segment struct {
	selector, attributes uint16
	base                 uint64
}

// reset is what hypervisors differ in.
type reset struct {
	code, stack, task uint16 // attributes of CS, SS, TR
	pat               uint64
	rdx               uint64
	mxcsr             uint32
	fcw               uint16 // control word of the x87
}

func resetOf(v VMM, eip uint32, cpu CPU) reset {
	const pat = 0x0007040600070406 // as processors have it (24593, section 7.8)
	switch v {
	case EC2:
		r := reset{code: 0x9B, stack: 0x92, task: 0x83, pat: pat, rdx: 0x600}
		if eip == resetEIP {
			r.code = 0x9A
		}
		return r
	case GCE:
		return reset{code: 0x9B, stack: 0x93, task: 0x8B, pat: 0x00070106, rdx: 0x600}
	default:
		return reset{code: 0x9B, stack: 0x93, task: 0x8B, pat: pat, rdx: uint64(cpu), mxcsr: 0x1F80, fcw: 0x37F}
	}
}

// saveArea is the save area of a processor that begins at eip (24593, table B-4).
func saveArea(v VMM, eip uint32, cpu CPU, features uint64) (page [pageSize]byte) {
	r := resetOf(v, eip, cpu)
	put64 := func(at int, value uint64) { binary.LittleEndian.PutUint64(page[at:], value) }
	const data = 0x93
	for at, s := range map[int]segment{
		0x00: {attributes: data},                                                     // ES
		0x10: {selector: 0xF000, attributes: r.code, base: uint64(eip) &^ 0xFFFF},    // CS
		0x20: {attributes: r.stack},                                                  // SS
		0x30: {attributes: data}, 0x40: {attributes: data}, 0x50: {attributes: data}, // DS, FS, GS
		0x60: {}, 0x70: {attributes: 0x82}, 0x80: {}, 0x90: {attributes: r.task}, // GDTR, LDTR, IDTR, TR
	} {
		binary.LittleEndian.PutUint16(page[at:], s.selector)
		binary.LittleEndian.PutUint16(page[at+2:], s.attributes)
		binary.LittleEndian.PutUint32(page[at+4:], 0xFFFF) // limit
		put64(at+8, s.base)
	}
	put64(0x0D0, 0x1000)     // EFER: SVME
	put64(0x148, 0x40)       // CR4: MCE
	put64(0x158, 0x10)       // CR0: ET
	put64(0x160, 0x400)      // DR7
	put64(0x168, 0xFFFF0FF0) // DR6
	put64(0x170, 0x2)        // RFLAGS
	put64(0x178, uint64(eip)&0xFFFF)
	put64(0x268, r.pat)
	put64(0x310, r.rdx)
	put64(0x3B0, features)
	put64(0x3E8, 0x1) // XCR0
	binary.LittleEndian.PutUint32(page[0x408:], r.mxcsr)
	binary.LittleEndian.PutUint16(page[0x410:], r.fcw)
	return page
}
