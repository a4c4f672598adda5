package azurepolicy_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
)

// byType collects claims for comparison.
func byType(in []azurepolicy.Claim) map[string]any {
	out := map[string]any{}
	for _, c := range in {
		if old, ok := out[c.Type]; ok {
			list, _ := old.([]any)
			if list == nil {
				list = []any{old}
			}
			out[c.Type] = append(list, c.Value)
			continue
		}
		out[c.Type] = c.Value
	}
	return out
}

func snpTree() map[string]any {
	return tee.Claims{
		TEE: tee.SNP, Measurement: tee.Measurement{0x04, 0xA1}, SVN: 1, ReportData: []byte{0x99}, InstanceID: "d1d5", Platform: "cafe", TCB: tee.TCBUpToDate,
		Vendor: map[string]any{
			"vmpl": uint64(2), "host_data": "00ff", "family_id": "01", "image_id": "02", "id_key_digest": "38ed", "author_key_digest": "00",
			"policy":       map[string]any{"migrate_ma": false, "smt": true, "bits": uint64(1 << 63)},
			"reported_tcb": map[string]any{"bootloader": uint64(3), "tee": uint64(0), "snp": uint64(8), "microcode": uint64(115)},
		},
	}.Tree()
}

func TestIncomingClaimsOfSNP(t *testing.T) {
	in := azurepolicy.IncomingClaims(snpTree())
	for _, c := range in {
		if c.Issuer != azurepolicy.IssuerService {
			t.Errorf("%s: issuer %s", c.Type, c.Issuer)
		}
	}
	got := byType(in)
	maps.DeleteFunc(got, func(name string, _ any) bool { return strings.HasPrefix(name, "x-cloister-") })
	want := map[string]any{
		"x-ms-attestation-type": "sevsnpvm", "x-ms-ver": "1.0", "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-launchmeasurement": "04a1",
		"x-ms-sevsnpvm-reportdata": "99", "x-ms-sevsnpvm-reportid": "d1d5", "x-ms-sevsnpvm-guestsvn": uint64(1), "x-ms-sevsnpvm-vmpl": uint64(2),
		"x-ms-sevsnpvm-hostdata": "00ff", "x-ms-sevsnpvm-familyId": "01", "x-ms-sevsnpvm-imageId": "02", "x-ms-sevsnpvm-idkeydigest": "38ed",
		"x-ms-sevsnpvm-authorkeydigest": "00", "x-ms-sevsnpvm-migration-allowed": false, "x-ms-sevsnpvm-smt-allowed": true,
		"x-ms-sevsnpvm-bootloader-svn": uint64(3), "x-ms-sevsnpvm-tee-svn": uint64(0), "x-ms-sevsnpvm-snpfw-svn": uint64(8), "x-ms-sevsnpvm-microcode-svn": uint64(115),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestIncomingClaimsOfSGX(t *testing.T) {
	tree := tee.Claims{TEE: tee.SGX, Debug: true, TCB: tee.TCBSWHardeningNeeded, Vendor: map[string]any{
		"mrenclave": "aa", "mrsigner": "bb", "product_id": uint64(4639), "svn": uint64(7), "config_id": "", "config_svn": uint64(2), "isv_family_id": "ff", "isv_ext_prod_id": "ee",
		"advisories": []any{"INTEL-SA-1", "INTEL-SA-2"}, "tcb_evaluation_data_number": uint64(17),
	}}.Tree()
	got := byType(azurepolicy.IncomingClaims(tree))
	for name, want := range map[string]any{
		"x-ms-attestation-type": "sgx", "x-ms-sgx-is-debuggable": true, "x-ms-sgx-mrenclave": "aa", "x-ms-sgx-mrsigner": "bb", "x-ms-sgx-product-id": uint64(4639),
		"x-ms-sgx-svn": uint64(7), "x-ms-sgx-config-svn": uint64(2), "x-ms-sgx-config-id": nil, "x-ms-sgx-isv-family-id": "ff", "x-ms-sgx-isv-extended-product-id": "ee",
		"$is-debuggable": true, "$sgx-mrsigner": "bb", "$sgx-mrenclave": "aa", "$product-id": uint64(4639), "$svn": uint64(7), "$tee": "sgx",
		"x-cloister-advisory": []any{"INTEL-SA-1", "INTEL-SA-2"}, "x-cloister-debug": true, "x-cloister-simulated": false, "x-cloister-tcb-status": "SWHardeningNeeded",
		"x-ms-compliance-status": nil,
	} {
		if d := cmp.Diff(want, got[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestIncomingClaimsOfTDX(t *testing.T) {
	tree := tee.Claims{TEE: tee.TDX, TCB: tee.TCBUpToDate, Vendor: map[string]any{
		"mr_td": "5be5", "mr_seam": "2fd2", "rtmr0": "00", "rtmr3": "33", "xfam": "e718060000000000", "seam_attributes": "0000000000000000", "tee_tcb_svn": "03000600000000000000000000000000",
		"td_attributes": map[string]any{"debug": false, "sept_ve_disable": true, "kl": false, "perfmon": false, "pks": true, "bits": uint64(0x10000000)},
	}}.Tree()
	got := azurepolicy.TokenClaims(tree)
	for name, want := range map[string]any{
		"x-ms-attestation-type": "tdxvm", "tdx_mrtd": "5be5", "tdx_mrseam": "2fd2", "tdx_rtmr0": "00", "tdx_rtmr1": nil, "tdx_rtmr3": "33", "tdx_xfam": "e718060000000000",
		"tdx_td_attributes": "0000001000000000", "tdx_td_attributes_debug": false, "tdx_td_attributes_septve_disable": true, "tdx_td_attributes_protection_keys": true,
		"tdx_td_attributes_key_locker": false, "tdx_td_attributes_perfmon": false, "tdx_seamsvn": uint64(3), "tdx_tee_tcb_svn": "03000600000000000000000000000000",
		"attester_tcb_status": "UpToDate", "dbgstat": "disabled", "tdx_seam_attributes": "0000000000000000",
	} {
		if d := cmp.Diff(want, got[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestIncomingClaimsOfAzureVMs(t *testing.T) {
	snp, _ := snpTree()["sev_snp"].(map[string]any)
	tree := tee.Claims{
		TEE: tee.AzureSNP, Measurement: tee.Measurement{0x04}, ReportData: []byte("of the quote"), InstanceID: "B958", SVN: 9,
		Vendor: map[string]any{
			"hardware": snp, "secure_boot": true, "compliance_status": "azure-compliant-cvm",
			"vm_configuration": map[string]any{"vm_id": "B958", "secure_boot": true, "tpm_enabled": true},
			"pcrs":             map[string]any{"sha256": map[string]any{"0": "aa", "7": "bb"}},
		},
	}.Tree()
	got := byType(azurepolicy.IncomingClaims(tree))
	for name, want := range map[string]any{
		"x-ms-attestation-type": "azurevm", "secureboot": true, "x-ms-azurevm-vmid": "B958", "x-ms-azurevm-attested-pcrs": []any{uint64(0), uint64(7)}, "x-ms-compliance-status": nil,
		"pcrs": `{"PCRs":[{"Digests":{"SHA256":"aa"},"Index":0},{"Digests":{"SHA256":"bb"},"Index":7}]}`,
	} {
		if d := cmp.Diff(want, got[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	text, _ := got["x-ms-isolation-tee"].(string)
	var inner map[string]any
	if err := json.Unmarshal([]byte(text), &inner); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-cvm", "x-ms-sevsnpvm-vmpl": 2.0, "x-ms-sevsnpvm-launchmeasurement": "04",
		"x-ms-sevsnpvm-is-debuggable": false,
		"x-ms-runtime":                map[string]any{"vm-configuration": map[string]any{"vmUniqueId": "B958", "secure-boot": true, "tpm-enabled": true}},
		// What the tree says of the quote is not the hardware's.
		"x-ms-sevsnpvm-reportdata": nil, "x-ms-sevsnpvm-reportid": nil, "x-ms-sevsnpvm-guestsvn": nil,
	} {
		if d := cmp.Diff(want, inner[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	tdx := azurepolicy.TokenClaims(tee.Claims{TEE: tee.AzureTDX, Vendor: map[string]any{"hardware": map[string]any{"mr_td": "aa"}}}.Tree())
	below, _ := tdx["x-ms-isolation-tee"].(map[string]any)
	if below["x-ms-attestation-type"] != "tdxvm" || below["tdx_mrtd"] != "aa" {
		t.Errorf("got %v", below)
	}
	// Version 1.2 can look inside.
	p := parse(t, authorize(`c:[type=="x-ms-isolation-tee", issuer=="AttestationService"] => add(type="hw", value=JsonToClaimValue(JmesPath(c.value, "\"x-ms-attestation-type\""))); [type=="hw", value=="sevsnpvm"] => permit();`))
	if out, err := p.Evaluate(azurepolicy.IncomingClaims(tree), azurepolicy.Options{}); err != nil || !out.Permitted {
		t.Errorf("got %v, %v", err, out.Trace)
	}
}

func TestIncomingClaimsOfOthers(t *testing.T) {
	software := tee.Claims{TEE: tee.Software, Simulated: true, TCB: tee.TCBNotApplicable}.Tree()
	got := byType(azurepolicy.IncomingClaims(software))
	if got["x-ms-attestation-type"] != "software" || got["x-cloister-simulated"] != true || got["x-cloister-tee"] != "software" {
		t.Errorf("got %v", got)
	}
	for _, text := range []string{azurepolicy.DefaultSGX, azurepolicy.DefaultVM} {
		if out, err := parse(t, text).Evaluate(azurepolicy.IncomingClaims(software), azurepolicy.Options{}); err != nil || out.Permitted {
			t.Errorf("a default policy permits simulated evidence: %v %v", out, err)
		}
	}
	nitro := byType(azurepolicy.IncomingClaims(tee.Claims{TEE: tee.Nitro}.Tree()))
	if _, ok := nitro["x-ms-attestation-type"]; ok || nitro["x-cloister-tee"] != "nitro" {
		t.Errorf("got %v", nitro)
	}
	tpm := azurepolicy.IncomingClaims(tee.Claims{TEE: tee.TPM, Vendor: map[string]any{"pcrs": map[string]any{"sha1": map[string]any{"0": "aa"}}, "secure_boot": true, "ak_trust": "certificate"}}.Tree())
	for _, c := range tpm {
		if c.ReadOnly != (c.Type == "pcrs") {
			t.Errorf("%s: read-only %v", c.Type, c.ReadOnly)
		}
	}
	if got := byType(tpm); got["x-ms-attestation-type"] != "tpm" || got["aikValidated"] != true || got["secureBootEnabled"] != true || got["pcrs"] != `{"PCRs":[{"Digests":{"SHA1":"aa"},"Index":0}]}` {
		t.Errorf("got %v", got)
	}
	for _, tree := range []map[string]any{nil, {"tee": 7}, {"tee": "sgx", "sgx": "text"}, {"tee": "tdx", "tdx": map[string]any{"td_attributes": 1, "tee_tcb_svn": "x"}}} {
		azurepolicy.IncomingClaims(tree) // no panic
	}
}

func TestDefaults(t *testing.T) {
	for _, k := range tee.Kinds() {
		text, ok := azurepolicy.Default(k)
		if want := !slices.Contains([]tee.Kind{tee.Software, tee.Nitro, tee.TPM, tee.ArmCCA, tee.NvidiaGPU}, k); ok != want {
			t.Errorf("%s: got %v", k, ok)
		}
		if ok && parse(t, text).String() != text {
			t.Errorf("%s: the default policy is not in canonical form", k)
		}
	}
	tree := tee.Claims{TEE: tee.SGX, Vendor: map[string]any{"mrenclave": "aa", "mrsigner": "bb", "product_id": uint64(1), "svn": uint64(2)}}.Tree()
	out, err := parse(t, azurepolicy.DefaultSGX).Evaluate(azurepolicy.IncomingClaims(tree), azurepolicy.Options{})
	want := map[string]any{"is-debuggable": false, "sgx-mrenclave": "aa", "sgx-mrsigner": "bb", "product-id": int64(1), "svn": int64(2), "tee": "sgx"}
	if d := cmp.Diff(want, out.Issued); err != nil || d != "" {
		t.Error(err, d)
	}
	if d := cmp.Diff(map[string]any{"x-ms-sgx-tcbidentifier": "azuredefault"}, out.Properties); d != "" {
		t.Error(d)
	}
	// As sha256sum and basenc --base64url give it.
	if got := azurepolicy.Hash("version= 1.0;"); got != "w6Cl_AQ3oK4qVBZ7Fo9L4SbBS1B5jAnBhiiv1Umgmeo" {
		t.Errorf("got %s", got)
	}
}
