package snp

// Bits of a guest's policy (56860, table "Guest Policy Structure"). Each allows
// or demands something of the platform; bits 0 to 15 are the least ABI version.
const (
	policySMT              = 1 << 16
	policyMigrateMA        = 1 << 18
	policyDebug            = 1 << 19
	policySingleSocket     = 1 << 20
	policyCXL              = 1 << 21
	policyMemAES256XTS     = 1 << 22
	policyRAPLDisabled     = 1 << 23
	policyCiphertextHiding = 1 << 24
	policyPageSwapDisabled = 1 << 25
)

// Bits of PLATFORM_INFO (56860, table "PLATFORM_INFO Field"): how the machine
// was set up when the report was made.
const (
	platformSMT                = 1 << 0
	platformTSME               = 1 << 1
	platformECC                = 1 << 2
	platformRAPLDisabled       = 1 << 3
	platformCiphertextHiding   = 1 << 4
	platformAliasCheckComplete = 1 << 5
	platformTIO                = 1 << 7
)

// policyClaims spells out a guest policy. "bits" is all of it, for the ones that
// have no name here yet.
func policyClaims(p uint64) map[string]any {
	return map[string]any{
		"abi_major":              p >> 8 & 0xFF,
		"abi_minor":              p & 0xFF,
		"smt":                    p&policySMT != 0,
		"migrate_ma":             p&policyMigrateMA != 0,
		"debug":                  p&policyDebug != 0,
		"single_socket":          p&policySingleSocket != 0,
		"cxl":                    p&policyCXL != 0,
		"mem_aes_256_xts":        p&policyMemAES256XTS != 0,
		"rapl_disabled":          p&policyRAPLDisabled != 0,
		"ciphertext_hiding_dram": p&policyCiphertextHiding != 0,
		"page_swap_disabled":     p&policyPageSwapDisabled != 0,
		"bits":                   p,
	}
}

// platformClaims spells out PLATFORM_INFO.
func platformClaims(p uint64) map[string]any {
	return map[string]any{
		"smt":                    p&platformSMT != 0,
		"tsme":                   p&platformTSME != 0,
		"ecc":                    p&platformECC != 0,
		"rapl_disabled":          p&platformRAPLDisabled != 0,
		"ciphertext_hiding_dram": p&platformCiphertextHiding != 0,
		"alias_check_complete":   p&platformAliasCheckComplete != 0,
		"tio":                    p&platformTIO != 0,
		"bits":                   p,
	}
}
