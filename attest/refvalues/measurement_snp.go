package refvalues

import (
	"strconv"
	"strings"
)

// snpMeasurement reads an element of the AMD profile ("AMD SEV-SNP
// measurements"): mkey 0 is the guest, the others are fields of the report. The
// TCB versions (mkeys 7, 9 and 10) are one 64-bit number there, whose bytes mean
// something else on each product: that cannot be compared here, so it is refused.
func snpMeasurement(mkey any, m cmap, e *Entry) error {
	key, ok := mkey.(uint64)
	if !ok {
		return malformed("%s: the profile names elements by number", m.at)
	}
	v, hasRaw := m.take(mvalRaw)
	raw := func(claim string, size int) error {
		if !hasRaw {
			return malformed("%s: want a raw value", m.at)
		}
		return e.raw(v, m.at+": raw-value", claim, size)
	}
	switch key {
	case 0:
		return snpGuest(m, e, v, hasRaw)
	case 1:
		return snpABI(m, e)
	case 2:
		n, err := uintOf(v, m.at+": raw-value")
		if err == nil {
			e.equal("sev_snp.vmpl", n)
		}
		return err
	case 3:
		return raw("instance_id", 32)
	case 4:
		return raw("sev_snp.report_id_ma", 32)
	case 5:
		return raw("sev_snp.id_key_digest", 48)
	case 6:
		return raw("sev_snp.author_key_digest", 48)
	case 8:
		return snpHost(m, e, v, hasRaw)
	}
	return malformed("%s: the element %d is not supported, and leaving it out would accept more", m.at, key)
}

func snpGuest(m cmap, e *Entry, raw any, hasRaw bool) error {
	if v, ok := m.take(mvalDigests); ok {
		if err := e.digests(v, m.at+": digests", claimMeasurement); err != nil {
			return err
		}
	}
	if v, ok := m.take(mvalSVN); ok {
		if err := e.svn(v, m.at+": svn", claimSVN); err != nil {
			return err
		}
	}
	if v, ok := m.take(mvalVersion); ok {
		image, err := versionOf(v, m.at+": version")
		if err != nil {
			return err
		}
		if err := checkDigest(strings.ToLower(image), 16); err != nil {
			return malformed("%s: version is not the IMAGE_ID in hex", m.at)
		}
		e.equal("sev_snp.image_id", strings.ToLower(image))
	}
	if hasRaw {
		if err := e.raw(raw, m.at+": raw-value", "sev_snp.family_id", 16); err != nil {
			return err
		}
	}
	v, ok := m.take(mvalFlags)
	if !ok {
		return nil
	}
	f, err := mapOf(v, m.at+": flags")
	if err != nil {
		return err
	}
	for _, flag := range []struct {
		key   int64
		claim string
	}{
		{3, claimDebug}, {-1, "sev_snp.policy.smt"}, {-2, "sev_snp.policy.migrate_ma"}, {-3, "sev_snp.policy.debug"},
		{-4, "sev_snp.policy.single_socket"}, {-5, "sev_snp.policy.cxl"}, {-6, "sev_snp.policy.mem_aes_256_xts"},
		{-7, "sev_snp.policy.rapl_disabled"}, {-8, "sev_snp.policy.ciphertext_hiding_dram"}, {-9, "sev_snp.policy.page_swap_disabled"},
	} {
		if err := e.flag(f, flag.key, flag.claim); err != nil {
			return err
		}
	}
	// replay-, integrity- and confidentiality-protected are what SEV-SNP is.
	for _, always := range []int64{4, 5, 9} {
		if v, ok := f.take(always); ok && v != true {
			return malformed("%s: flag %d is true of every SEV-SNP guest", f.at, always)
		}
	}
	return f.done()
}

// snpABI reads the version of the ABI in the guest's policy: major.minor.0.
func snpABI(m cmap, e *Entry) error {
	v, _ := m.take(mvalVersion)
	s, err := versionOf(v, m.at+": version")
	if err != nil {
		return err
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[2] != "0" {
		return malformed("%s: version is not major.minor.0", m.at)
	}
	for i, claim := range []string{"sev_snp.policy.abi_major", "sev_snp.policy.abi_minor"} {
		n, err := strconv.ParseUint(parts[i], 10, 8)
		if err != nil {
			return malformed("%s: version is not major.minor.0", m.at)
		}
		e.equal(claim, n)
	}
	return nil
}

// snpHost reads the current host: firmware, HOSTDATA and PLATFORM_INFO.
func snpHost(m cmap, e *Entry, raw any, hasRaw bool) error {
	if v, ok := m.take(mvalVersion); ok {
		s, err := versionOf(v, m.at+": version")
		if err != nil {
			return err
		}
		e.equal("sev_snp.current_firmware", s)
	}
	if hasRaw {
		if err := e.raw(raw, m.at+": raw-value", "sev_snp.host_data", 32); err != nil {
			return err
		}
	}
	v, ok := m.take(mvalFlags)
	if !ok {
		return nil
	}
	f, err := mapOf(v, m.at+": flags")
	if err != nil {
		return err
	}
	for i, name := range []string{"smt", "tsme", "ecc", "rapl_disabled", "ciphertext_hiding_dram", "alias_check_complete"} {
		if err := e.flag(f, -49-int64(i), "sev_snp.platform_info."+name); err != nil {
			return err
		}
	}
	return f.done()
}
