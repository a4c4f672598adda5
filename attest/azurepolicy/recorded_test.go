package azurepolicy_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// The tables name the claims as the verifiers do: over evidence of real machines
// every claim is there that Microsoft's sample tokens have.
func TestClaimsOfRecordedEvidence(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile("../../tee/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const snpNames = "is-debuggable launchmeasurement vmpl hostdata familyId imageId idkeydigest authorkeydigest migration-allowed smt-allowed bootloader-svn tee-svn snpfw-svn microcode-svn"
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		verifier tee.Verifier
		evidence []byte
		in       tee.Input
		prefix   string
		names    string
	}{
		{snp.New(), read("snp/testdata/milan-v3-report.bin"), tee.Input{At: at, Endorsements: tee.Endorsements{Certificates: [][]byte{read("snp/testdata/milan-v3-vcek.der")}}},
			"x-ms-sevsnpvm-", snpNames + " reportdata reportid guestsvn"},
		{tdx.New(), read("tdx/testdata/v4-quote.bin"), tee.Input{At: at}, "tdx_",
			"mrtd mrseam mrsignerseam mrconfigid mrowner mrownerconfig rtmr0 rtmr1 rtmr2 rtmr3 report_data seam_attributes seamsvn tee_tcb_svn xfam td_attributes " +
				"td_attributes_debug td_attributes_key_locker td_attributes_perfmon td_attributes_protection_keys td_attributes_septve_disable"},
		{sgx.New(), read("sgx/testdata/v3-quote.bin"), tee.Input{At: at}, "x-ms-sgx-",
			"is-debuggable mrenclave mrsigner product-id svn report-data config-id config-svn isv-extended-product-id isv-family-id"},
		{azure.NewSNP(snp.New()), read("azure/testdata/snp-evidence.json"), tee.Input{At: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)}, "x-ms-sevsnpvm-", snpNames},
	} {
		kind := c.verifier.Kind()
		claims, _, err := c.verifier.Verify(tee.Evidence{Kind: kind, Data: c.evidence}, c.in)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		token := azurepolicy.TokenClaims(claims.Tree())
		in := token
		if inner, ok := token["x-ms-isolation-tee"].(map[string]any); ok {
			in = inner
			if token["x-ms-attestation-type"] != "azurevm" || token["x-ms-azurevm-vmid"] == nil || inner["x-ms-runtime"] == nil {
				t.Errorf("%s: %v", kind, token)
			}
		}
		want := map[string]bool{}
		for name := range strings.FieldsSeq(c.names) {
			want[c.prefix+name] = true
			if in[c.prefix+name] == nil {
				t.Errorf("%s: no claim %s%s", kind, c.prefix, name)
			}
		}
		for name := range in {
			if strings.HasPrefix(name, c.prefix) && !want[name] {
				t.Errorf("%s: the claim %s is not one of Microsoft's", kind, name)
			}
		}
	}
}
