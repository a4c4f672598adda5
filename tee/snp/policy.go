package snp

// Bits of a guest policy (56860, table "Guest Policy Structure").
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
