package maa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

const runtimeJSON = `{"keys":[{"kid":"k","kty":"RSA"}],"n":12345678901234567890}`

// snpRequest is the body of SevSnpVm as Microsoft's sidecar makes it.
func (w *world) snpRequest(runtime string) map[string]any {
	w.Helper()
	return w.snpRequestOf(runtime, nil, "")
}

// snpRequestOf is one with a launch measurement, nil for any, and endorsements.
func (w *world) snpRequestOf(runtime string, measurement []byte, endorsements string) map[string]any {
	w.Helper()
	key := w.amd.VCEK(w, snptest.KeyOptions{})
	r := key.Report()
	digest := sha256.Sum256([]byte(runtime))
	r.ReportData = [64]byte{}
	copy(r.ReportData[:], digest[:])
	if measurement != nil {
		r.Measurement = [48]byte(measurement)
	}
	r.HostData = sha256.Sum256([]byte("policy of the containers"))
	ev := key.Evidence(r)
	var chain []byte
	for _, c := range ev.Certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	report, err := json.Marshal(map[string]string{
		"SnpReport": base64.URLEncoding.EncodeToString(ev.Data), "VcekCertChain": base64.URLEncoding.EncodeToString(chain), "Endorsements": endorsements,
	})
	if err != nil {
		w.Fatal(err)
	}
	return map[string]any{"report": base64.URLEncoding.EncodeToString(report), "runtimeData": data("JSON", runtime), "nonce": 7}
}

func TestAttest(t *testing.T) {
	w := newWorld(t)
	quote := w.quote("held data", nil).Data
	header := binary.LittleEndian.AppendUint64([]byte{1, 0, 0, 0, 2, 0, 0, 0}, uint64(len(quote)))
	launched := func(body []byte) {
		digest := sha256.Sum256([]byte(`{"version":1}`))
		copy(body[192:], digest[:])
		copy(body[192+32:], make([]byte, 32))
	}
	for name, c := range map[string]struct {
		typ    string
		body   any
		claims map[string]any
	}{
		"SGX": {"SgxEnclave", map[string]any{"quote": url64(quote), "runtimeData": data("Binary", "held data"), "nonce": "n"}, map[string]any{
			"x-ms-attestation-type": "sgx", "x-ms-sgx-ehd": url64([]byte("held data")), "x-ms-sgx-mrenclave": strings.Repeat("e1", 32), "x-ms-sgx-svn": 3.0,
			"x-ms-sgx-product-id": 7.0, "x-ms-sgx-is-debuggable": false, "nonce": "n", "product-id": 7.0, "x-cloister-tcb-status": "UpToDate",
		}},
		"SGX without data":  {"SgxEnclave", map[string]any{"quote": url64(quote)}, map[string]any{"x-ms-sgx-ehd": nil, "x-ms-runtime": nil}},
		"SGX, padded":       {"SgxEnclave", map[string]any{"quote": base64.URLEncoding.EncodeToString(quote)}, nil},
		"SGX, standard":     {"SgxEnclave", map[string]any{"quote": base64.StdEncoding.EncodeToString(quote)}, nil},
		"SGX, raw standard": {"SgxEnclave", map[string]any{"quote": base64.RawStdEncoding.EncodeToString(quote)}, nil},
		"Open Enclave": {"OpenEnclave", map[string]any{"report": url64(append(header, quote...)), "runtimeData": data("binary", "held data")}, map[string]any{
			"x-ms-attestation-type": "sgx", "x-ms-sgx-mrsigner": strings.Repeat("51", 32),
		}},
		"launch data": {"SgxEnclave", map[string]any{"quote": url64(w.quote("x", launched).Data), "initTimeData": data("JSON", `{"version":1}`)}, map[string]any{
			"x-ms-inittime": map[string]any{"version": 1.0},
		}},
		"TDX": {"TdxVm", map[string]any{"quote": url64(w.tdQuote(runtimeJSON, nil).Data), "runtimeData": data("JSON", runtimeJSON)}, map[string]any{
			"x-ms-attestation-type": "tdxvm", "tdx_mrtd": strings.Repeat("7d", 48), "attester_tcb_status": "UpToDate",
		}},
		"SNP": {"SevSnpVm", w.snpRequest(runtimeJSON), map[string]any{
			"x-ms-attestation-type": "sevsnpvm", "x-ms-sevsnpvm-is-debuggable": false, "nonce": "7", "x-cloister-tcb-status": "Unknown",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			got := w.token(http.MethodPost, "/attest/"+c.typ+version, "", c.body)
			for claim, want := range c.claims {
				if fmt.Sprint(got[claim]) != fmt.Sprint(want) {
					t.Errorf("%s: %v, want %v", claim, got[claim], want)
				}
			}
			if exp, iat := got["exp"].(float64), got["iat"].(float64); exp-iat != attest.DefaultTokenLifetime.Seconds() || iat != float64(w.now.Unix()) {
				t.Errorf("from %v to %v", iat, exp)
			}
			if c.typ == "TdxVm" || c.typ == "SevSnpVm" {
				keys, _ := got["x-ms-runtime"].(map[string]any)["keys"].([]any)
				if len(keys) != 1 {
					t.Errorf("runtime data %v", got["x-ms-runtime"])
				}
			}
		})
	}
}

func TestAttestRefuses(t *testing.T) {
	w := newWorld(t)
	quote := w.quote("held data", nil).Data
	debug := w.quote("x", func(body []byte) { body[48] |= 2 }).Data
	altered := bytes.Clone(quote)
	altered[100] ^= 1
	w.create(maa.Settings{Name: "strict"})
	set := envelope(`version= 1.0; authorizationrules { [type=="x-ms-sgx-is-debuggable", value==false] && [type=="x-ms-sgx-svn", value>=4] => permit(); }; issuancerules {};`)
	w.token(http.MethodPut, "/azure/strict/policies/SgxEnclave"+version, "alice", set)
	with := func(more map[string]any) map[string]any {
		more["quote"] = url64(quote)
		return more
	}
	const bad, failed = "InvalidParameter", "AttestationFailed"
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
		code   string
		text   string
	}{
		"other data":          {"/attest/SgxEnclave", with(map[string]any{"runtimeData": data("Binary", "other data")}), 400, failed, "report_data"},
		"other launch data":   {"/attest/SgxEnclave", with(map[string]any{"initTimeData": data("Binary", "x")}), 400, failed, "config_id"},
		"altered":             {"/attest/SgxEnclave", map[string]any{"quote": url64(altered)}, 400, failed, "signature"},
		"a TD as an enclave":  {"/attest/SgxEnclave", map[string]any{"quote": url64(w.tdQuote("x", nil).Data)}, 400, failed, "tee"},
		"an enclave as a TD":  {"/attest/TdxVm", map[string]any{"quote": url64(quote)}, 400, failed, "tee"},
		"policy refuses":      {"/azure/strict/attest/SgxEnclave", map[string]any{"quote": url64(quote)}, 400, "PolicyEvaluationError", "x-ms-sgx-svn"},
		"policy, debug":       {"/azure/strict/attest/SgxEnclave", map[string]any{"quote": url64(debug)}, 400, "PolicyEvaluationError", "x-ms-sgx-is-debuggable"},
		"no evidence":         {"/attest/SgxEnclave", map[string]any{}, 400, bad, "quote"},
		"report for a quote":  {"/attest/SgxEnclave", map[string]any{"report": url64(quote)}, 400, bad, "quote"},
		"both":                {"/attest/SgxEnclave", with(map[string]any{"report": "AA"}), 400, bad, "quote"},
		"no base64":           {"/attest/SgxEnclave", map[string]any{"quote": "*"}, 400, bad, "base64"},
		"no JSON":             {"/attest/SgxEnclave", "nonsense", 400, bad, "JSON"},
		"a member twice":      {"/attest/SgxEnclave", `{"quote":"AA","quote":"AA"}`, 400, bad, "quote"},
		"another spelling":    {"/attest/SgxEnclave", `{"Quote":"AA"}`, 400, bad, "Quote"},
		"a member more":       {"/attest/SgxEnclave", `{"quote":"AA","customClaims":1}`, 400, bad, "customClaims"},
		"bytes behind":        {"/attest/SgxEnclave", `{"quote":"AA"} x`, 400, bad, "JSON"},
		"data that is a list": {"/attest/SgxEnclave", with(map[string]any{"runtimeData": data("JSON", "[]")}), 400, bad, "object"},
		"data twice in it":    {"/attest/SgxEnclave", with(map[string]any{"runtimeData": data("JSON", `{"a":1,"a":2}`)}), 400, bad, "once"},
		"data of no type":     {"/attest/SgxEnclave", with(map[string]any{"runtimeData": data("", "x")}), 400, bad, "dataType"},
		"a long nonce":        {"/attest/SgxEnclave", with(map[string]any{"nonce": strings.Repeat("n", 2000)}), 400, bad, "nonce"},
		"a nonce of a list":   {"/attest/SgxEnclave", with(map[string]any{"nonce": []int{1}}), 400, bad, "nonce"},
		"unknown type":        {"/attest/Other", with(map[string]any{}), 400, bad, "attestation type"},
		"a draft of nonsense": {"/attest/SgxEnclave", with(map[string]any{"draftPolicyForAttestation": "x"}), 400, bad, "1:1"},
		"no report":           {"/attest/SevSnpVm", map[string]any{"report": url64([]byte("{}"))}, 400, failed, "parse"},
		"report of nonsense":  {"/attest/SevSnpVm", map[string]any{"report": url64([]byte("x"))}, 400, bad, "SnpReport"},
		"chain of nonsense":   {"/attest/SevSnpVm", map[string]any{"report": url64([]byte(`{"SnpReport":"AA","VcekCertChain":"AA"}`))}, 400, bad, "PEM"},
		"TPM, another type":   {"/attest/Tpm", map[string]any{"data": url64([]byte(`{"payload":{"type":"x"}}`))}, 400, bad, "aikcert"},
		"TPM, nonsense":       {"/attest/Tpm", map[string]any{"data": url64([]byte(`x`))}, 400, bad, "TPM"},
		"TPM, a request":      {"/attest/Tpm", map[string]any{"data": url64([]byte(`{"request":"x.y.z"}`))}, 501, "NotSupported", "Windows"},
		"no such provider":    {"/azure/other/attest/SgxEnclave", with(map[string]any{}), 404, "NotFound", ""},
		"no name":             {"/azure/", nil, 404, "NotFound", ""},
		"shared by its name":  {"/azure/shared/attest/SgxEnclave", with(map[string]any{}), 404, "NotFound", "root"},
		"nothing there":       {"/attest", nil, 404, "NotFound", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			w.refused(http.MethodPost, c.path+version, "", c.body, c.status, c.code, c.text)
		})
	}
	w.refused(http.MethodPost, "/attest/SgxEnclave", "", with(map[string]any{}), 400, "InvalidApiVersionParameter", "2025-06-01")
	w.refused(http.MethodPost, "/attest/SgxEnclave?api-version=1999-01-01", "", with(map[string]any{}), 400, "InvalidApiVersionParameter", "")
	w.refused(http.MethodGet, "/attest/SgxEnclave"+version, "", nil, 405, "MethodNotAllowed", "POST")
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", strings.Repeat(" ", maa.MaxRequest+1), 413, "RequestTooLarge", "")
	// Evidence that is larger than evidence can be.
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": url64(make([]byte, tee.MaxEvidence+1))}, 400, "AttestationFailed", "at most")
}

// TestTruncated: no beginning of a good request is accepted.
func TestTruncated(t *testing.T) {
	w := newWorld(t)
	body, err := json.Marshal(map[string]any{"quote": url64(w.quote("d", nil).Data), "runtimeData": data("Binary", "d")})
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(body) {
		if status, answer := w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", string(body[:n])); status != http.StatusBadRequest {
			t.Fatalf("%d of %d bytes: %d %v", n, len(body), status, answer)
		}
	}
}

// TestCollateral: what the node lacks may be on its way, and clients ask again by
// themselves; what is stale is refused but for the grace of the provider.
func TestCollateral(t *testing.T) {
	w := newWorld(t)
	w.create(maa.Settings{Name: "patient", GraceDays: 30})
	request := map[string]any{"quote": url64(w.quote("d", nil).Data)}
	w.now = dcaptest.At.AddDate(0, 0, 29)
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", request, 503, "CollateralUnavailable", "collateral_expired")
	w.token(http.MethodPost, "/azure/patient/attest/SgxEnclave"+version, "", request)
	w.now = dcaptest.At.AddDate(0, 0, 100)
	w.refused(http.MethodPost, "/azure/patient/attest/SgxEnclave"+version, "", request, 503, "CollateralUnavailable", "collateral_expired")
	w.now = dcaptest.At
	w.collateral[tee.SGX] = tee.Input{Roots: w.intel.Roots()}
	for _, provider := range []string{"", "/azure/patient"} { // grace is for what is late, not for what is missing
		w.refused(http.MethodPost, provider+"/attest/SgxEnclave"+version, "", request, 503, "CollateralUnavailable", "collateral_missing")
	}
}

// TestOutOfDate: a platform that its vendor says is not up to date is refused,
// unless the policy speaks of that itself.
func TestOutOfDate(t *testing.T) {
	w := newWorld(t)
	w.create(maa.Settings{Name: "mine"})
	w.collateral[tee.SGX] = w.intel.Input(t, dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) {
		m["tcbLevels"].([]any)[0].(map[string]any)["tcbStatus"] = tee.TCBOutOfDate
	}})
	request := map[string]any{"quote": url64(w.quote("d", nil).Data)}
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", request, 400, "PolicyEvaluationError", "tcb_status")
	set := `version= 1.0; authorizationrules { [type=="x-cloister-tcb-status", value=="OutOfDate"] => permit(); }; issuancerules {};`
	w.token(http.MethodPut, "/azure/mine/policies/SgxEnclave"+version, "alice", envelope(set))
	if got := w.token(http.MethodPost, "/azure/mine/attest/SgxEnclave"+version, "", request); got["x-cloister-tcb-status"] != "OutOfDate" {
		t.Errorf("claims %v", got)
	}
}

// TestDraft: a policy that is tried out decides, and its token says that nobody
// vouches for it.
func TestDraft(t *testing.T) {
	w := newWorld(t)
	request := map[string]any{"quote": url64(w.quote("d", nil).Data)}
	for _, text := range []string{permitAll, envelope(permitAll)} {
		request["draftPolicyForAttestation"] = text
		status, answer := w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", request)
		token, _ := answer["token"].(string)
		header, rest, _ := strings.Cut(token, ".")
		if raw, err := base64.RawURLEncoding.DecodeString(header); status != 200 || err != nil || !strings.Contains(string(raw), `"none"`) || !strings.HasSuffix(rest, ".") {
			t.Errorf("%d %v", status, answer)
		}
	}
	request["draftPolicyForAttestation"] = strings.ReplaceAll(permitAll, "permit", "deny")
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", request, 400, "PolicyEvaluationError", "")
}

// TestConfiguration: what a policy's configuration asks for is done, or the
// evidence refused.
func TestConfiguration(t *testing.T) {
	w := newWorld(t)
	w.create(maa.Settings{Name: "mine"})
	request := map[string]any{"quote": url64(w.quote("d", nil).Data)}
	set := func(property string) string {
		return envelope("version= 1.1; configurationrules { => issueproperty(" + property + "); }; authorizationrules { => permit(); }; issuancerules {};")
	}
	for _, c := range []struct {
		property string
		lifetime time.Duration // 0: refused
	}{
		{`type="report_validity_in_minutes", value=480`, 8 * time.Hour},
		{`type="report_validity_in_minutes", value=100000`, attest.MaxTokenLifetime},
		{`type="report_validity_in_minutes", value=0`, 0},
		{`type="x-ms-sgx-tcbidentifier", value="azuredefault"`, attest.DefaultTokenLifetime},
		{`type="x-ms-sgx-tcbidentifier", value="20"`, attest.DefaultTokenLifetime},
		{`type="x-ms-sgx-tcbidentifier", value="21"`, 0},
		{`type="x-ms-sgx-tcbidentifier", value="newest"`, 0},
		{`type="omit_x5c", value=true`, attest.DefaultTokenLifetime},
		{`type="required_pcr_mask", value=15`, 0}, // nothing here acts on it
	} {
		w.token(http.MethodPut, "/azure/mine/policies/SgxEnclave"+version, "alice", set(c.property))
		if c.lifetime == 0 {
			w.refused(http.MethodPost, "/azure/mine/attest/SgxEnclave"+version, "", request, 400, "PolicyEvaluationError", "")
			continue
		}
		claims := w.token(http.MethodPost, "/azure/mine/attest/SgxEnclave"+version, "", request)
		if got := claims["exp"].(float64) - claims["iat"].(float64); got != c.lifetime.Seconds() {
			t.Errorf("%s: %v seconds", c.property, got)
		}
	}
	// Policies may issue claims, and not the service's own.
	w.token(http.MethodPut, "/azure/mine/policies/SgxEnclave"+version, "alice", envelope(`version= 1.0; authorizationrules { => permit(); };
		issuancerules { => issue(type="x-ms-sgx-svn", value=99); => issue(type="mine", value=true); };`))
	claims := w.token(http.MethodPost, "/azure/mine/attest/SgxEnclave"+version, "", request)
	if claims["x-ms-sgx-svn"] != 3.0 || claims["mine"] != true {
		t.Errorf("claims %v", claims)
	}
}
