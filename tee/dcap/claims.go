package dcap

import (
	"encoding/hex"
	"maps"

	"github.com/cloister-cc/cloister/tee"
)

// claims are the vendor claims about a platform that its PCK certificate
// makes: they are the same each time, so they are made once.
func (p PCK) claims() map[string]any {
	text := hex.EncodeToString
	m := map[string]any{
		"fmspc":                text(p.FMSPC[:]),
		"pce_id":               text(p.PCEID[:]),
		"pce_svn":              uint64(p.PCESVN),
		"cpu_svn":              text(p.CPUSVN[:]),
		"ppid":                 text(p.PPID[:]),
		"platform_instance_id": text(p.PlatformInstanceID),
	}
	for name, flag := range map[string]*bool{"dynamic_platform": p.DynamicPlatform, "cached_keys": p.CachedKeys, "smt": p.SMT} {
		if flag != nil {
			m[name] = *flag
		}
	}
	return m
}

// PlatformClaims are the vendor claims that SGX and TDX share: about the
// platform's processor, its firmware and the quoting enclave. There is room for
// more in the map, which is the caller's.
func (r *Result) PlatformClaims() map[string]any {
	m := make(map[string]any, 48)
	maps.Copy(m, r.platform)
	advisories := make([]any, len(r.Advisories))
	for i, a := range r.Advisories {
		advisories[i] = a
	}
	m["quote_version"] = uint64(r.Quote.Version)
	m["advisories"] = advisories
	m["tcb_date"] = r.LevelDate
	m["tcb_evaluation_data_number"] = uint64(r.EvaluationNumber)
	m["qe_mrsigner"] = hex.EncodeToString(r.QuotingEnclave.MRSIGNER)
	m["qe_product_id"] = uint64(r.QuotingEnclave.ISVProdID)
	m["qe_svn"] = uint64(r.QuotingEnclave.ISVSVN)
	if r.Status != tee.TCBUnknown {
		m["collateral_from"], m["collateral_until"] = stamp(r.ValidFrom), stamp(r.ValidUntil)
	}
	return m
}

// Platform is the claim that names the platform: its PPID in hex.
func (r *Result) Platform() string {
	id, _ := r.platform["ppid"].(string)
	return id
}
