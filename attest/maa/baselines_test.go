package maa_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/cloister-cc/cloister/attest/maa"
)

// TestBaselines: a provider says which TCB its policy wants.
func TestBaselines(t *testing.T) {
	w := newWorld(t)
	w.create(maa.Settings{Name: "mine"})
	const rest = ` authorizationrules { => permit(); }; issuancerules {};`
	for name, text := range map[string]string{
		"SgxEnclave":  `version= 1.2; configurationrules { => issueproperty(type="x-ms-sgx-tcbidentifier", value="17"); };` + rest,
		"OpenEnclave": `version= 1.2; configurationrules { => issueproperty(type="x-ms-sgx-tcbidentifier", value="azuredefault"); };` + rest,
	} {
		if status, answer := w.do(http.MethodPut, "/azure/mine/policies/"+name+version, "alice", envelope(text)); status != http.StatusOK {
			t.Fatal(status, answer)
		}
	}
	const byDefault = `{"tcbBaselines":[{"isSelectedTcb":true,"tcbIdentifier":"azuredefault"}]}`
	for path, want := range map[string]string{
		"/tcbbaselines/SgxEnclave":             byDefault,
		"/azure/mine/tcbbaselines/SgxEnclave":  `{"tcbBaselines":[{"isSelectedTcb":false,"tcbIdentifier":"azuredefault"},{"isSelectedTcb":true,"tcbEvaluationDataNumber":17,"tcbIdentifier":"17"}]}`,
		"/azure/mine/tcbbaselines/OpenEnclave": byDefault,
		"/azure/mine/tcbbaselines/SevSnpVm":    `{"tcbBaselines":[]}`,
	} {
		status, answer := w.do(http.MethodGet, path+version, "", nil)
		if got, err := json.Marshal(answer); err != nil || status != http.StatusOK || string(got) != want {
			t.Errorf("%s: %d %s, want %s", path, status, got, want)
		}
	}
	w.refused(http.MethodGet, "/tcbbaselines/Pluton"+version, "", nil, 400, "InvalidParameter", "attestation type")
	w.refused(http.MethodPost, "/tcbbaselines/SgxEnclave"+version, "", nil, 405, "MethodNotAllowed", "")
	w.refused(http.MethodGet, "/tcbbaselines/SgxEnclave", "", nil, 400, "InvalidApiVersionParameter", "")
}
