package snp

import (
	"encoding/hex"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// claimsFrom returns what a report proves that the key of certificate c signed.
func claimsFrom(r *Report, c *certificate, status tee.TCBStatus) tee.Claims {
	claims := tee.Claims{
		TEE:         tee.SNP,
		Debug:       r.Debug(),
		Measurement: r.Measurement[:],
		SVN:         r.GuestSVN,
		ReportData:  r.ReportData[:],
		InstanceID:  hex.EncodeToString(r.ReportID[:]),
		Platform:    c.platform(),
		TCB:         status,
		Vendor:      vendorClaims(r, c),
	}
	if !allZero(r.HostData[:]) {
		claims.LaunchDigest = r.HostData[:]
	}
	return claims
}

// platform is the chip for a VCEK and the provider for a VLEK. Every machine of
// a provider can use the same VLEK, so the CHIP_ID in a report that it signed is
// worth no more than the provider's word.
func (c *certificate) platform() string {
	if c.SigningKey == VLEK {
		return c.CSPID
	}
	return c.chipHex()
}

func vendorClaims(r *Report, c *certificate) map[string]any {
	tcb := func(b [8]byte) map[string]any { return tcbClaims(decodeTCB(c.Product, b)) }
	// All hex is cut from one string: a claim costs no allocation of its own.
	text := hex.EncodeToString(r.signed[:])
	hexOf := func(off, size int) string { return text[2*off : 2*(off+size)] }
	return map[string]any{
		"version":            uint64(r.Version),
		"product":            string(c.Product),
		"signing_key":        c.SigningKey.String(),
		"vmpl":               uint64(r.VMPL),
		"policy":             policyClaims(r.Policy),
		"platform_info":      platformClaims(r.PlatformInfo),
		"reported_tcb":       tcb(r.ReportedTCB),
		"current_tcb":        tcb(r.CurrentTCB),
		"committed_tcb":      tcb(r.CommittedTCB),
		"launch_tcb":         tcb(r.LaunchTCB),
		"current_firmware":   firmware(r.CurrentFW),
		"committed_firmware": firmware(r.CommittedFW),
		"chip_id":            hexOf(offChipID, len(r.ChipID)),
		"csp_id":             c.CSPID,
		"family_id":          hexOf(offFamilyID, len(r.FamilyID)),
		"image_id":           hexOf(offImageID, len(r.ImageID)),
		"id_key_digest":      hexOf(offIDKey, len(r.IDKeyDigest)),
		"author_key_enabled": r.AuthorKeyEn,
		"author_key_digest":  hexOf(offAuthorKey, len(r.AuthorDigest)),
		"report_id_ma":       hexOf(offReportIDMA, len(r.ReportIDMA)),
		"host_data":          hexOf(offHostData, len(r.HostData)),
		"mask_chip_key":      r.MaskChipKey,
	}
}

func tcbClaims(t TCB) map[string]any {
	return map[string]any{
		"fmc": uint64(t.FMC), "bootloader": uint64(t.Bootloader), "tee": uint64(t.TEE),
		"snp": uint64(t.SNP), "microcode": uint64(t.Microcode),
	}
}

// firmware spells a version as AMD's release notes do: major.minor.build, all
// decimal.
func firmware(v [3]byte) string { return fmt.Sprintf("%d.%d.%d", v[2], v[1], v[0]) }
