package nitro

import (
	"crypto/x509"
	"encoding/hex"
	"strconv"

	"github.com/cloister-cc/cloister/tee"
)

// claimsFrom returns what a document proves under a root. Nothing in it aliases
// the evidence: the CBOR reader copies.
func claimsFrom(d *Document, root *x509.Certificate) tee.Claims {
	pcrs := make(map[string]any, len(d.PCRs))
	for i, v := range d.PCRs {
		pcrs[strconv.FormatUint(i, 10)] = hex.EncodeToString(v)
	}
	signer := ""
	if !allZero(d.PCRs[8]) {
		signer = hex.EncodeToString(d.PCRs[8])
	}
	return tee.Claims{
		TEE:         tee.Nitro,
		Debug:       d.Debug(),
		Measurement: d.PCRs[0],
		ReportData:  d.UserData,
		InstanceID:  d.ModuleID,
		TCB:         tee.TCBUnknown,
		Vendor: map[string]any{
			"module_id":           d.ModuleID,
			"timestamp_ms":        d.Timestamp,
			"pcrs":                pcrs,
			"signing_certificate": signer,
			"public_key":          hex.EncodeToString(d.PublicKey),
			"nonce":               hex.EncodeToString(d.Nonce),
			"root":                fingerprint(root.Raw),
		},
	}
}
