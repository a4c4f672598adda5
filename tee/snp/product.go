package snp

import (
	"fmt"
	"strings"
)

// Product is a processor generation, as AMD's key service spells it. Each has
// its own root key.
type Product string

// The products whose roots are embedded.
const (
	Milan Product = "Milan" // EPYC 7003
	Genoa Product = "Genoa" // EPYC 9004 and 8004
	Turin Product = "Turin" // EPYC 9005
)

// products lists the known generations and how certificates name their keys.
var products = []Product{Milan, Genoa, Turin}

// productOfCPUID returns the product of a version 3 or later report, or "".
// Family and model are the combined values of CPUID Fn0000_0001_EAX.
func productOfCPUID(cpuid [3]byte) Product {
	family, model := cpuid[0], cpuid[1]
	switch {
	case family == 0x19 && model <= 0x0F:
		return Milan
	case family == 0x19 && (model>>4 == 0x1 || model>>4 == 0xA):
		return Genoa
	case family == 0x1A && model <= 0x11:
		return Turin
	}
	return ""
}

// productOfName returns the product of a certificate's product name, which may
// carry a stepping ("Milan-B0"), or "".
func productOfName(name string) Product {
	base, _, _ := strings.Cut(name, "-")
	for _, p := range products {
		if base == string(p) {
			return p
		}
	}
	return ""
}

// issuer is the common name of the certificate that signs keys of this kind.
func (p Product) issuer(k SigningKey) string {
	if k == VLEK {
		return "SEV-VLEK-" + string(p)
	}
	return "SEV-" + string(p)
}

// root is the common name of the product's root.
func (p Product) root() string { return "ARK-" + string(p) }

// KDSURL returns the address at which AMD's key distribution service gives the
// VCEK (DER) for a report from a chip of product p (57230, section "VCEK
// endpoints"). Nothing here fetches it. For VLEK there is no such address: the
// provider hands the certificate to the guest.
func KDSURL(r *Report, p Product) string {
	t := decodeTCB(p, r.ReportedTCB)
	chip := r.ChipID[:]
	fmc := ""
	if p == Turin {
		chip = chip[:turinChipID]
		fmc = fmt.Sprintf("fmcSPL=%02d&", t.FMC)
	}
	return fmt.Sprintf("https://kdsintf.amd.com/vcek/v1/%s/%x?%sblSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d",
		p, chip, fmc, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// Product is the processor that the report says it is of; empty in version 2,
// which does not say, and for one that this build does not know.
func (r *Report) Product() Product {
	if r.Version < 3 {
		return ""
	}
	return productOfCPUID(r.CPUID)
}
