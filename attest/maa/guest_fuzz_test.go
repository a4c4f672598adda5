package maa

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
)

// FuzzGuest: what a guest says is refused, or is evidence within bounds whose parts
// the verifier reads as they were given.
func FuzzGuest(f *testing.F) {
	runtime := base64.StdEncoding.EncodeToString([]byte(`{"keys":[]}`))
	report := base64.StdEncoding.EncodeToString([]byte(`{"SnpReport":"` + encode64(make([]byte, azure.HardwareReportSize)) + `","VcekCertChain":""}`))
	const info = `"AttestationProtocolVersion":"2.0","OSType":"TGludXg=","OSDistro":"","OSBuild":"","OSVersionMajor":22,"OSVersionMinor":"04","TcgLogs":"AA==","ClientPayload":{"a":"b"},
		"TpmInfo":{"AikCert":"","AikPub":"AQ","PcrQuote":"AQ","PcrSignature":"AQ","EncKeyPub":"AQ","EncKeyCertifyInfo":"AQ","EncKeyCertifyInfoSignature":"AQ",
		"PcrSet":[0,7],"PCRs":[{"Index":0,"Digest":"AQ"},{"Index":7,"Digest":"AQ"}]}`
	for _, seed := range []string{
		`{` + info + `,"IsolationInfo":{"Type":"Tdx","Evidence":{"Proof":"AQID","RunTimeData":"` + runtime + `"}}}`,
		`{` + info + `,"IsolationInfo":{"Type":"SevSnp","Evidence":{"Proof":"` + report + `","RunTimeData":"` + runtime + `"}}}`,
		`{` + info + `,"IsolationInfo":{"Type":"TrustedLaunch"}}`, `{}`, `[]`, `{"ClientPayload":{"ClientPayload":null}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		body, err := json.Marshal(map[string]string{"AttestationInfo": encode64(said)})
		if err != nil {
			t.Fatal(err)
		}
		g, err := readGuest(body)
		if err != nil {
			if e := asServiceError(err); e.status != 400 {
				t.Errorf("%d: %v", e.status, err)
			}
			return
		}
		e, err := azure.ParseEnvelope(g.Kind, g.Data)
		if err != nil {
			t.Fatal(err)
		}
		r, err := azure.ParseReport(g.Kind, e.HCLReport)
		if err != nil || string(r.RuntimeData) != string(g.runtimeData) || r.TDX != (g.Kind == tee.AzureTDX) || string(e.Message) != string(g.quote) {
			t.Errorf("%v: %+v", err, r)
		}
		if len(g.payload) > maxGuestPayload || !json.Valid(g.payload) || len(g.pcrs) > guestPCRs || len(g.system) != 6 {
			t.Errorf("%+v", g)
		}
		_, _ = g.checkKey()
	})
}
