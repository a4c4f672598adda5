package maa

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/tee"
)

// maxUVMs bounds the endorsements that come with one report.
const maxUVMs = 4

// readUVMs reads the member Endorsements of SevSnpVm: base64url of JSON whose
// member Uvm has endorsements of utility VMs, in base64url each.
func readUVMs(text string) ([][]byte, error) {
	if text == "" {
		return nil, nil
	}
	b, err := azurepolicy.DecodeBase64(text)
	if err != nil {
		return nil, badRequest("Endorsements: want base64url of JSON with Uvm", "")
	}
	var w struct {
		UVM []string `json:"Uvm"`
	}
	if err := attest.DecodeExact(b, &w, "Uvm"); err != nil {
		return nil, badRequest("Endorsements: want base64url of JSON with Uvm", err.Error())
	}
	if len(w.UVM) > maxUVMs {
		return nil, badRequest("Endorsements: want at most "+strconv.Itoa(maxUVMs), "")
	}
	out := make([][]byte, len(w.UVM))
	for i, s := range w.UVM {
		if out[i], err = azurepolicy.DecodeBase64(s); err != nil || len(out[i]) == 0 {
			return nil, badRequest("Endorsements.Uvm: want base64url of COSE_Sign1", "")
		}
	}
	return out, nil
}

// checkUVM wants one of the endorsements, if there are some, to be Microsoft's and
// of what was launched. Who sends endorsements wants them to be checked.
func (e *evidence) checkUVM(c tee.Claims) error {
	if len(e.uvms) == 0 {
		return nil
	}
	var errs []error
	for _, b := range e.uvms {
		u, err := refvalues.VerifyUVM(b, refvalues.MicrosoftUVM())
		if err == nil && !bytes.Equal(u.Measurement, c.Measurement) {
			err = errors.New("it is of the measurement " + hex.EncodeToString(u.Measurement))
		}
		if err == nil {
			e.uvm = &u
			return nil
		}
		errs = append(errs, err)
	}
	return tee.Refuse(c.TEE, tee.CodeBinding, "Endorsements", "Microsoft's endorsement of the measurement "+hex.EncodeToString(c.Measurement), errors.Join(errs...).Error(),
		"send the endorsement that came with this utility VM, or none")
}

// addUVM adds what an endorsement says, for policies to see. The status is the word
// that Microsoft's service has for it.
func (e evidence) addUVM(claims map[string]any) {
	if e.uvm != nil {
		claims["x-ms-compliance-status"], claims["x-cloister-uvm-svn"] = "azure-compliant-uvm", e.uvm.GuestSVN
	}
}
