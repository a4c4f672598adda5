package snp

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// TCB is the security patch level of each firmware component. FMC exists from
// Turin on and is 0 before.
type TCB struct {
	FMC        uint8 `json:"fmc,omitempty"`
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// Where each component sits in the 8 bytes of a TCB_VERSION: bootloader, tee,
// four reserved, snp, microcode on Milan and Genoa; fmc, bootloader, tee, snp,
// three reserved, microcode on Turin.
func decodeTCB(p Product, b [8]byte) TCB {
	if p == Turin {
		return TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}

// String lists the components.
func (t TCB) String() string {
	return fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// atLeast reports whether every component is at least min's.
func (t TCB) atLeast(min TCB) bool {
	return t.FMC >= min.FMC && t.Bootloader >= min.Bootloader && t.TEE >= min.TEE && t.SNP >= min.SNP && t.Microcode >= min.Microcode
}

// MinimumTCB names the collateral (tee.Endorsements.Collateral) that says which
// firmware is current: a JSON object from product to the least [TCB],
//
//	{"Milan": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}}
//
// AMD publishes the levels in its security bulletins, not as a signed document,
// so they are the caller's reference values. A reported TCB that reaches them
// is UpToDate, one that does not OutOfDate; without them the status is Unknown.
const MinimumTCB = "sev-snp-minimum-tcb.json"

const maxMinimumTCB = 4 << 10

// tcbStatus compares the reported TCB with the caller's minimum.
func tcbStatus(p Product, got TCB, in tee.Input) (tee.TCBStatus, *tee.Failure) {
	doc, given := in.Endorsements.Collateral[MinimumTCB]
	if !given {
		return tee.TCBUnknown, nil
	}
	bad := &tee.Failure{Code: tee.CodeParse, Claim: MinimumTCB, Want: "a JSON object from product to TCB", Got: "other bytes"}
	if len(doc) > maxMinimumTCB {
		return "", bad
	}
	var least map[Product]TCB
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(&least); err != nil || d.More() {
		return "", bad
	}
	min, known := least[p]
	switch {
	case !known:
		return tee.TCBUnknown, nil
	case got.atLeast(min):
		return tee.TCBUpToDate, nil
	}
	return tee.TCBOutOfDate, nil
}
