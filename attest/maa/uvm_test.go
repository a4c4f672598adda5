package maa_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/attest/refvalues"
)

// realUVM is an endorsement of Microsoft's, and what it says.
func realUVM(t *testing.T, name string) ([]byte, refvalues.UVM) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "refvalues", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	u, err := refvalues.VerifyUVM(b, refvalues.MicrosoftUVM())
	if err != nil {
		t.Fatal(err)
	}
	return b, u
}

// endorsed is the member Endorsements as Microsoft's sidecar makes it.
func endorsed(t *testing.T, uvms ...[]byte) string {
	t.Helper()
	texts := []string{}
	for _, b := range uvms {
		texts = append(texts, url64(b))
	}
	b, err := json.Marshal(map[string]any{"Uvm": texts})
	if err != nil {
		t.Fatal(err)
	}
	return url64(b)
}

// TestUVM: Microsoft's endorsement of a utility VM makes a claim, for tokens and for
// policies, if it is of what was launched; any other refuses.
func TestUVM(t *testing.T) {
	w := newWorld(t)
	real, says := realUVM(t, "uvm-envelope.cose")
	other, _ := realUVM(t, "uvm-json.cose")
	altered := append([]byte{}, real...)
	altered[len(altered)-1] ^= 1
	w.create(maa.Settings{Name: "mine"})
	const compliant = `version= 1.0; authorizationrules { [type=="x-ms-compliance-status", value=="azure-compliant-uvm"] => permit(); }; issuancerules {};`
	if status, answer := w.do(http.MethodPut, "/azure/mine/policies/SevSnpVm"+version, "alice", envelope(compliant)); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	const path = "/azure/mine/attest/SevSnpVm" + version
	for name, endorsements := range map[string]string{"alone": endorsed(t, real), "behind another": endorsed(t, other, real)} {
		claims := w.token(http.MethodPost, path, "", w.snpRequestOf(runtimeJSON, says.Measurement, endorsements))
		if claims["x-ms-compliance-status"] != "azure-compliant-uvm" || claims["x-cloister-uvm-svn"] != float64(says.GuestSVN) {
			t.Errorf("%s: %v", name, claims)
		}
	}
	if claims := w.token(http.MethodPost, "/attest/SevSnpVm"+version, "", w.snpRequestOf(runtimeJSON, says.Measurement, endorsed(t))); claims["x-ms-compliance-status"] != nil {
		t.Errorf("without an endorsement: %v", claims)
	}
	w.refused(http.MethodPost, path, "", w.snpRequestOf(runtimeJSON, says.Measurement, ""), 400, "PolicyEvaluationError", "")
	for name, c := range map[string]struct {
		measurement        []byte
		endorsements, text string
	}{
		"of another measurement": {make([]byte, 48), endorsed(t, real), "measurement"},
		"altered":                {says.Measurement, endorsed(t, altered), "signature"},
		"both wrong":             {says.Measurement, endorsed(t, altered, other), "signature"},
		"nonsense":               {says.Measurement, endorsed(t, []byte("nonsense")), "Endorsements"},
		"empty":                  {says.Measurement, endorsed(t, nil), "Uvm"},
		"too many":               {says.Measurement, endorsed(t, real, real, real, real, real), "at most 4"},
		"not base64":             {says.Measurement, "*", "Endorsements"},
		"not JSON":               {says.Measurement, url64([]byte("x")), "Endorsements"},
		"another member":         {says.Measurement, url64([]byte(`{"Host":[]}`)), "Host"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			status, answer := w.do(http.MethodPost, path, "", w.snpRequestOf(runtimeJSON, c.measurement, c.endorsements))
			text, err := json.Marshal(answer)
			if err != nil || status != http.StatusBadRequest {
				t.Fatalf("%d %s %v", status, text, err)
			}
			if !strings.Contains(string(text), c.text) {
				t.Errorf("%s, want %q in it", text, c.text)
			}
		})
	}
}
