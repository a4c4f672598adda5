package collateral

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// intelSet is what a quote needs of Intel, in one object, as quote verification
// libraries pass it around (sgx_ql_qve_collateral_t; the JSON form is that of
// several verifiers). Lists are DER in hex, chains PEM, and the two documents
// the exact text that Intel signed.
type intelSet struct {
	PCKCRLChain       string `json:"pck_crl_issuer_chain"`
	RootCACRL         string `json:"root_ca_crl"`
	PCKCRL            string `json:"pck_crl"`
	TCBInfoChain      string `json:"tcb_info_issuer_chain"`
	TCBInfo           string `json:"tcb_info"`
	TCBInfoSignature  string `json:"tcb_info_signature"`
	IdentityChain     string `json:"qe_identity_issuer_chain"`
	Identity          string `json:"qe_identity"`
	IdentitySignature string `json:"qe_identity_signature"`
}

// IsIntelSet reports whether a JSON object is a set of Intel's collateral.
func IsIntelSet(b []byte) bool {
	var probe map[string]json.RawMessage
	return json.Unmarshal(b, &probe) == nil && probe["tcb_info"] != nil && probe["qe_identity"] != nil
}

// readIntelSet takes a set apart: documents become answers of the PCS again,
// with the exact text that was signed.
func readIntelSet(e *tee.Endorsements, name string, b []byte) error {
	var s intelSet
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("set of collateral: %w", err)
	}
	for i, chain := range []string{s.PCKCRLChain, s.TCBInfoChain, s.IdentityChain} {
		if !readPEM(e, []byte(chain)) {
			return fmt.Errorf("set of collateral: issuer chain %d holds no certificate", i+1)
		}
	}
	for i, list := range []string{s.RootCACRL, s.PCKCRL} {
		der, err := hex.DecodeString(list)
		if err != nil || !isList(der) {
			return fmt.Errorf("set of collateral: revocation list %d is not one in hex", i+1)
		}
		e.CRLs = append(e.CRLs, der)
	}
	for _, d := range []struct{ member, suffix, text, signature string }{
		{"tcbInfo", "#tcb_info", s.TCBInfo, s.TCBInfoSignature}, {"enclaveIdentity", "#qe_identity", s.Identity, s.IdentitySignature},
	} {
		if _, err := hex.DecodeString(d.signature); err != nil || !json.Valid([]byte(d.text)) {
			return errors.New("set of collateral: " + d.suffix[1:] + " is not JSON, or its signature not hex")
		}
		keep(e, name+d.suffix, fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, d.member, d.text, d.signature))
	}
	return nil
}
