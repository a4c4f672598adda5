package azure

import (
	"bytes"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// Hardware takes the evidence of the hardware out of that of a VM: a report of
// SEV-SNP with its certificates, or a quote of TDX. Nothing of it is verified; ok
// is false where there is none. It is for finding the hardware's collateral.
func Hardware(ev tee.Evidence) (hardware tee.Evidence, ok bool) {
	e := &Envelope{HCLReport: ev.Data}
	if !bytes.HasPrefix(ev.Data, hclMagic) {
		kind := ev.Kind
		if kind == "" {
			kind = tee.AzureSNP
			if bytes.Contains(ev.Data, []byte(`"td_quote"`)) {
				kind = tee.AzureTDX
			}
		}
		var err error
		if e, err = ParseEnvelope(kind, ev.Data); err != nil {
			return tee.Evidence{}, false
		}
	}
	if len(e.TDQuote) > 0 {
		return tee.Evidence{Kind: tee.TDX, Data: e.TDQuote}, true
	}
	r, err := ParseReport(tee.AzureSNP, e.HCLReport)
	if err != nil || r.TDX {
		return tee.Evidence{}, false
	}
	return tee.Evidence{Kind: tee.SNP, Data: r.Hardware, Certificates: slices.Concat(e.VCEK, ev.Certificates)}, true
}
