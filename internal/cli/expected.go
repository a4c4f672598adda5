package cli

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
	"github.com/cloister-cc/cloister/tee"
)

// readExpected reads the output of `instance measure -o json` and puts it into a
// policy as its reference value.
func readExpected(path string, p *attest.Policy) (m measured, err error) {
	b, err := readBounded(path, refvalues.MaxDocument)
	if err != nil {
		return m, err
	}
	values, err := refvalues.FromMeasure(b)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, &coded{status: exitUsage, code: "expected", err: fmt.Errorf("%s: %w", path, err), hint: "cloister instance measure -o json makes it"}
	}
	if err := values.Apply(p); err != nil {
		return m, &coded{status: exitUsage, code: "expected", err: err, hint: "leave the lists of the policy empty that the expected values fill"}
	}
	return m, nil
}

// differences say which registers of a machine with a TPM are not the expected ones,
// and what is measured into them: a measurement is over all of them, and alone says
// only that one differs.
func (m measured) differences(v *attest.Verified) []tee.Failure {
	if v == nil {
		return nil
	}
	pcrs, _ := v.Claims.Vendor["pcrs"].(map[string]any)
	bank, _ := pcrs["sha256"].(map[string]any)
	var out []tee.Failure
	for i := range expect.Registers {
		name := strconv.Itoa(i)
		want, got := m.PCRs[name], fmt.Sprint(bank[name])
		if want != "" && got != want {
			out = append(out, tee.Failure{Code: attest.CodeMeasurement, Claim: "PCR " + name, Want: want, Got: got, Hint: "another " + expect.Covers(i)})
		}
	}
	return out
}
