package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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

// differences say which registers of a machine with a TPM, or of an enclave of Nitro,
// are not the expected ones, and what is measured into them: a measurement is over
// several parts, and alone says only that one differs.
func (m measured) differences(v *attest.Verified) []tee.Failure {
	if v == nil || v.Claims.TEE != m.TEE {
		return nil
	}
	values, _ := v.Claims.Vendor["pcrs"].(map[string]any)
	if m.TEE == tee.TPM {
		values, _ = values["sha256"].(map[string]any)
	}
	var out []tee.Failure
	for _, name := range m.registers() {
		got, ok := values[name].(string)
		if !ok {
			got = "none"
		}
		if want := m.PCRs[name]; got != want {
			out = append(out, tee.Failure{Code: attest.CodeMeasurement, Claim: "PCR " + name, Want: want, Got: got, Hint: "what differs: " + m.registerOf(name)})
		}
	}
	return out
}

// registers are the names of the registers, which have one digit, in order.
func (m measured) registers() []string { return slices.Sorted(maps.Keys(m.PCRs)) }

// registerOf says what is measured into a register.
func (m measured) registerOf(name string) string {
	if m.TEE == tee.Nitro {
		return map[string]string{"0": "image", "1": "kernel, command line, or first RAM disk", "2": "other RAM disk", "8": "certificate that signed the image"}[name]
	}
	n, _ := strconv.Atoi(name)
	return expect.Covers(n)
}
