package snp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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

// atLeast reports whether every component is at least o's.
func (t TCB) atLeast(o TCB) bool {
	return t.FMC >= o.FMC && t.Bootloader >= o.Bootloader && t.TEE >= o.TEE && t.SNP >= o.SNP && t.Microcode >= o.Microcode
}

// MinimumTCB names the collateral (tee.Endorsements.Collateral) that says which
// firmware is current: a JSON object from product to the least [TCB], in which
// every component is named (fmc for Turin alone),
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
	least, err := parseMinimumTCB(doc)
	if err != nil {
		return "", &tee.Failure{Code: tee.CodeParse, Claim: MinimumTCB, Want: "a JSON object from product to TCB", Got: fmt.Sprintf("%.200q", err.Error())}
	}
	floor, known := least[p]
	switch {
	case !known:
		return tee.TCBUnknown, nil
	case got.atLeast(floor):
		return tee.TCBUpToDate, nil
	}
	return tee.TCBOutOfDate, nil
}

// parseMinimumTCB reads the document of [MinimumTCB]. A misspelt product or a
// component that is left out would be a check that nobody misses, so both are
// refused.
func parseMinimumTCB(doc []byte) (map[Product]TCB, error) {
	if len(doc) > maxMinimumTCB {
		return nil, fmt.Errorf("%d bytes", len(doc))
	}
	var levels map[Product]map[string]uint8
	if err := json.Unmarshal(doc, &levels); err != nil {
		return nil, err
	}
	if levels == nil {
		return nil, errors.New("null")
	}
	least := make(map[Product]TCB, len(levels))
	for p, l := range levels {
		if !slices.Contains(products, p) {
			return nil, fmt.Errorf("product %q: want one of %v", p, products)
		}
		names := []string{"bootloader", "tee", "snp", "microcode"}
		if p == Turin {
			names = append(names, "fmc")
		}
		for _, n := range names {
			if _, ok := l[n]; !ok {
				return nil, fmt.Errorf("%s: %s is missing", p, n)
			}
		}
		if len(l) != len(names) {
			return nil, fmt.Errorf("%s: want %v alone", p, names)
		}
		least[p] = TCB{FMC: l["fmc"], Bootloader: l["bootloader"], TEE: l["tee"], SNP: l["snp"], Microcode: l["microcode"]}
	}
	return least, nil
}
