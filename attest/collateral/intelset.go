package collateral

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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

// ItemsOfSet takes a set of Intel's collateral apart into items, so that it can be
// kept and served like what was fetched. source says where it is from.
func ItemsOfSet(b []byte, source string, now time.Time) ([]Item, error) {
	var s intelSet
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("set of collateral: %w", err)
	}
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	root, err1 := hex.DecodeString(s.RootCACRL)
	pck, err2 := hex.DecodeString(s.PCKCRL)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("set of collateral: revocation lists: %w", err)
	}
	parts := []struct{ data, chain string }{
		{fmt.Sprintf(`{"tcbInfo":%s,"signature":%q}`, s.TCBInfo, s.TCBInfoSignature), s.TCBInfoChain},
		{fmt.Sprintf(`{"enclaveIdentity":%s,"signature":%q}`, s.Identity, s.IdentitySignature), s.IdentityChain},
		{string(pck), s.PCKCRLChain},
		{string(root), ""},
	}
	items := make([]Item, len(parts))
	for i, p := range parts {
		if items[i], err = newItem(names[i].Kind, names[i].Name, source, now, []byte(p.data), p.chain); err != nil {
			return nil, fmt.Errorf("set of collateral: %w", err)
		}
	}
	return items, nil
}

// names says which platform a set is of: what its documents say, and who made its
// revocation list.
func (s intelSet) names() ([]Item, error) {
	var info struct {
		ID    string `json:"id"`
		FMSPC string `json:"fmspc"`
	}
	if err := json.Unmarshal([]byte(s.TCBInfo), &info); err != nil {
		return nil, fmt.Errorf("set of collateral: tcb_info: %w", err)
	}
	kind := tee.SGX // version 2 has no id, and was of SGX only
	if info.ID == "TDX" {
		kind = tee.TDX
	}
	der, err := hex.DecodeString(s.PCKCRL)
	if err != nil {
		return nil, fmt.Errorf("set of collateral: pck_crl: %w", err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("set of collateral: pck_crl: %w", err)
	}
	for _, authority := range []string{"Platform", "Processor"} {
		if strings.Contains(crl.Issuer.CommonName, authority) {
			p := Platform{TEE: kind, FMSPC: strings.ToLower(info.FMSPC), Authority: strings.ToLower(authority)}
			return p.names(), p.check()
		}
	}
	return nil, errors.New("set of collateral: its list is by neither of Intel's authorities")
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
