package cmw

import (
	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tsm"
	"github.com/fxamacker/cbor/v2"
)

// Types of reports of Linux's configfs-tsm, as IANA lists them.
const (
	mediaTypeTSMJSON = "application/vnd.veraison.tsm-report+json"
	mediaTypeTSMCBOR = "application/vnd.veraison.tsm-report+cbor"
)

// providerParameter repeats what is inside.
const providerParameter = "provider"

// tsmWire is a report in both forms. Bytes are base64url in JSON. Reports of the
// services behind a provider are another thing, and refused as unknown members.
type tsmWire struct {
	Auxiliary []byte `cbor:"auxblob,omitempty"`
	Evidence  []byte `cbor:"outblob"`
	Provider  string `cbor:"provider"`
}

func readTSMJSON(b []byte) (w tsmWire, ok bool) {
	var text struct {
		Auxiliary string `json:"auxblob"`
		Evidence  string `json:"outblob"`
		Provider  string `json:"provider"`
	}
	if err := attest.DecodeStrict(b, &text); err != nil {
		return tsmWire{}, false
	}
	w.Provider = text.Provider
	var okAuxiliary bool
	w.Evidence, ok = decode64(text.Evidence)
	w.Auxiliary, okAuxiliary = decode64(text.Auxiliary)
	return w, ok && okAuxiliary
}

func readTSMCBOR(b []byte) (w tsmWire, ok bool) {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		UTF8: cbor.UTF8RejectInvalid, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
	}.DecMode()
	if err != nil {
		return tsmWire{}, false
	}
	return w, mode.Unmarshal(b, &w) == nil
}

// tsmReport reads a report of a provider that package attest can verify.
func tsmReport(read func([]byte) (tsmWire, bool)) part {
	return func(ev *tee.Evidence, parameters map[string]string, value []byte) error {
		w, ok := read(value)
		if !ok || len(w.Evidence) == 0 {
			return tee.Refuse("", tee.CodeParse, "tsm-report", "provider, outblob and perhaps auxblob", "another form", "")
		}
		if p, given := parameters[providerParameter]; given && p != w.Provider || len(parameters) > 1 || len(parameters) == 1 && !given {
			return unsupported("the provider of the report, and no other parameter", "another")
		}
		switch w.Provider {
		case tsm.SEVGuest:
			certs, err := snp.ParseCertificateTable(w.Auxiliary)
			if err != nil {
				return tee.Refuse(tee.SNP, tee.CodeParse, "auxblob", "a certificate table", "another form", "")
			}
			ev.Certificates = append(ev.Certificates, certs...)
			return claim(ev, tee.SNP, w.Evidence)
		case tsm.TDXGuest:
			if len(w.Auxiliary) > 0 {
				return tee.Refuse(tee.TDX, tee.CodeUnsupported, "auxblob", "none", "one", "")
			}
			return claim(ev, tee.TDX, w.Evidence)
		default:
			return unsupported("a report of "+tsm.SEVGuest+" or "+tsm.TDXGuest, "another provider")
		}
	}
}
