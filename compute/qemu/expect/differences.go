package expect

import (
	"encoding/hex"
	"fmt"
)

// Difference is a register that has another value than the expected one.
type Difference struct {
	PCR       int
	Want, Got string // hex; Got is empty for a register that is not there
	Of        string // what is measured into it
}

// String says which register differs and what that is of.
func (d Difference) String() string {
	got := d.Got
	if got == "" {
		got = "none"
	}
	return fmt.Sprintf("PCR %d differs: %s (want %.16s…, got %.16s)", d.PCR, d.Of, d.Want, got)
}

// Covers says what is measured into a register of PCR 0 to 9.
func Covers(register int) string {
	of := [Registers]string{
		"firmware, or size of the machine", "boot options of the firmware", "firmware of devices", "settings of devices",
		"kernel, or size of the machine or of the initial RAM disk", "end of the firmware", "maker's own", "secure boot", "boot loader's own", "kernel command line, or initial RAM disk",
	}
	if register < 0 || register >= len(of) {
		return "not computed"
	}
	return of[register]
}

// Differences are the registers in which values, those of a SHA-256 bank by their
// index, are not the expected ones.
func (p PCRs) Differences(values map[uint32][]byte) []Difference {
	var out []Difference
	for i, want := range p {
		if got := values[uint32(i)]; string(got) != string(want[:]) {
			out = append(out, Difference{PCR: i, Want: hex.EncodeToString(want[:]), Got: hex.EncodeToString(got), Of: Covers(i)})
		}
	}
	return out
}
