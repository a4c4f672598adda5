package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/cloister-cc/cloister/tee/nitro/nitrotest"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestExpected: evidence of a machine is accepted with what was computed of it, and a
// refusal names the registers that differ and what they are of.
func TestExpected(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, v any) string {
		t.Helper()
		b, ok := v.([]byte)
		if !ok {
			var err error
			if b, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	vm := tpmtest.New(t, tpm.ECDSA)
	vm.Boot(false)
	ev, err := vm.Evidence(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	var p expect.PCRs
	for i := range p {
		p[i] = [32]byte(vm.PCRs[eventlog.SHA256][uint32(i)])
	}
	computed := func(p expect.PCRs) measured {
		m := measured{TEE: tee.TPM, Measurement: p.Measurement(), PCRs: map[string]string{}}
		for i, v := range p {
			m.PCRs[strconv.Itoa(i)] = hex.EncodeToString(v[:])
		}
		return m
	}
	evidence, ak := write("evidence.json", ev), write(tpm.TrustedAK, tpmtest.TrustedAK(t, vm)[tpm.TrustedAK])
	policy := write("policy.yaml", []byte("version: 1\nname: vm\naccept: [tpm-vm]\nmeasurements: [any]\ntcb: [any]\n"))
	verify := func(m measured, more ...string) (int, string) {
		var out bytes.Buffer
		args := append([]string{"attest", "verify", "--evidence", evidence, "--endorsements", ak, "--at", tpmtest.At.Format(time.RFC3339), "--policy", policy, "--expected", write("measured.json", m)}, more...)
		status := Main(args, strings.NewReader(""), &out, &out)
		return status, out.String()
	}
	if status, out := verify(computed(p)); status != exitOK {
		t.Errorf("as computed: %d %s", status, out)
	}
	other := p
	other[9][0] ^= 1
	other[0][0] ^= 1
	status, out := verify(computed(other))
	for _, text := range []string{"measurement: PCR 9", "what differs: kernel command line", "measurement: PCR 0", "what differs: firmware"} {
		if status != exitRefused || !strings.Contains(out, text) {
			t.Errorf("%d, no %q in %s", status, text, out)
		}
	}
	if strings.Contains(out, "PCR 4") {
		t.Errorf("%s", out)
	}
	m := computed(p)
	m.Measurement = m.Measurement[:5]
	if status, out := verify(m); status != exitUsage || !strings.Contains(out, "cloister instance measure -o json makes it") {
		t.Errorf("%d %s", status, out)
	}
	if status, out := verify(computed(p), "--no-policy"); status != exitUsage {
		t.Errorf("%d %s", status, out)
	}
}

// TestExpectedEnclave: the same of an enclave of Nitro.
func TestExpectedEnclave(t *testing.T) {
	aws := nitrotest.New(t)
	e := aws.Enclave(t)
	v, err := attest.NewVerifier(nitro.New()).Verify(e.Evidence(t, e.Fields()), aws.Input(), attest.WithoutFreshness())
	if err != nil {
		t.Fatal(err)
	}
	pcrs := v.Claims.Vendor["pcrs"].(map[string]any)
	m := measured{TEE: tee.Nitro, Measurement: v.Claims.Measurement, PCRs: map[string]string{}}
	for _, name := range []string{"0", "1", "2", "8"} {
		m.PCRs[name] = pcrs[name].(string)
	}
	if got := m.differences(v); got != nil {
		t.Errorf("%v", got)
	}
	m.PCRs["2"] = strings.Repeat("00", 48)
	got := m.differences(v)
	if len(got) != 1 || got[0].Claim != "PCR 2" || got[0].Hint != "what differs: other RAM disk" {
		t.Errorf("%v", got)
	}
	if got := (measured{TEE: tee.TPM, PCRs: m.PCRs}).differences(v); got != nil {
		t.Errorf("of another TEE: %v", got)
	}
}
