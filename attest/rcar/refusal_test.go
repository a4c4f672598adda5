package rcar_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/rcar"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

func TestAuthRefuses(t *testing.T) {
	b := newBroker(t, tee.Input{}, nil)
	const form = "want a Request"
	for name, c := range map[string]struct{ body, detail string }{
		"empty":                {"", form},
		"no JSON":              {"evil", form},
		"a list":               {"[]", form},
		"more behind it":       {`{"version":"0.4.0","tee":"snp","extra-params":""}{}`, form},
		"member twice":         {`{"version":"0.4.0","tee":"sample","tee":"snp","extra-params":""}`, form},
		"member in capitals":   {`{"version":"0.4.0","TEE":"snp","extra-params":""}`, form},
		"unknown member":       {`{"version":"0.4.0","tee":"snp","extra-params":"","evil":1}`, form},
		"version a number":     {`{"version":4,"tee":"snp","extra-params":""}`, form},
		"too deep":             {`{"version":"0.4.0","tee":"snp","extra-params":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, form},
		"no version":           {`{"tee":"snp","extra-params":""}`, "version: want 0.4.0"},
		"newer version":        {`{"version":"0.5.0","tee":"snp","extra-params":""}`, "version: want 0.4.0"},
		"unreleased version":   {`{"version":"0.3.0","tee":"snp","extra-params":""}`, "version: want 0.4.0"},
		"old version":          {`{"version":"0.1.0","tee":"snp","extra-params":""}`, "version: want 0.4.0"},
		"no TEE":               {`{"version":"0.4.0","extra-params":""}`, "tee: want snp"},
		"unknown TEE":          {`{"version":"0.4.0","tee":"evil","extra-params":""}`, "tee: want snp"},
		"TEE in capitals":      {`{"version":"0.4.0","tee":"SNP","extra-params":""}`, "tee: want snp"},
		"our name of a TEE":    {`{"version":"0.4.0","tee":"sev-snp","extra-params":""}`, "tee: want snp"},
		"software":             {`{"version":"0.4.0","tee":"software","extra-params":""}`, "tee: want snp"},
		"TEE that is not read": {`{"version":"0.4.0","tee":"cca","extra-params":""}`, "not verified here"},
		"sample":               {`{"version":"0.4.0","tee":"sample","extra-params":""}`, "never accepted"},
		"sample device":        {`{"version":"0.2.0","tee":"sampledevice","extra-params":""}`, "never accepted"},
		"too long":             {`{"version":"0.4.0","tee":"snp","extra-params":"` + strings.Repeat("x", rcar.MaxAuth) + `"}`, "more than 16384 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := b.post(t, rcar.PathAuth, c.body)
			wantRefusal(t, w, 401, "AttestationError", c.detail)
			if len(w.Result().Cookies()) > 0 {
				t.Error("a session beside an error")
			}
			if strings.Contains(w.Body.String(), "evil") {
				t.Errorf("repeats what was sent: %s", w.Body)
			}
		})
	}
}

func TestPathsRefused(t *testing.T) {
	b := newBroker(t, tee.Input{}, nil)
	for _, path := range []string{"/", "/kbs/v0", "/kbs/v0/auth/", "/kbs/v1/auth", "/kbs/v0/resource/a/b/c", "/kbs/v0/evil"} {
		w := b.post(t, path, "{}")
		wantRefusal(t, w, 404, "InvalidRequestPath", "want /kbs/v0/auth")
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead, http.MethodOptions} {
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, rcar.PathAttest, http.NoBody))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}

func TestAttestRefuses(t *testing.T) {
	m := snptest.New(t, snp.Genoa)
	key := m.VCEK(t, snptest.KeyOptions{})
	b := newBroker(t, tee.Input{Roots: m.Roots(), At: at}, nil)
	type object = map[string]any
	runtime := func(o object) object { return o["runtime-data"].(object) }
	pubkey := func(o object) object { return runtime(o)["tee-pubkey"].(object) }
	evidence := func(o object) object { return o["tee-evidence"].(object) }
	primary := func(o object) object { return evidence(o)["primary_evidence"].(object) }
	report := func(o object) object { return primary(o)["attestation_report"].(object) }
	const form, fields, shape = "want an Attestation", "want every field", "evidence of SEV-SNP"
	cases := []struct {
		name   string
		change func(o object)
		detail string
	}{
		{"no runtime data", func(o object) { delete(o, "runtime-data") }, form},
		{"no evidence", func(o object) { delete(o, "tee-evidence") }, form},
		{"key outside", func(o object) { o["tee-pubkey"] = pubkey(o) }, form},
		{"form of 0.2.0", func(o object) { o["tee-pubkey"] = pubkey(o); delete(o, "runtime-data") }, form},
		{"unknown member", func(o object) { o["evil"] = 1 }, form},
		{"unknown runtime data", func(o object) { runtime(o)["additional-evidence"] = "" }, form},
		{"no nonce", func(o object) { delete(runtime(o), "nonce") }, "want the nonce"},
		{"another nonce", func(o object) { runtime(o)["nonce"] = "AAAA" }, "want the nonce"},
		{"evidence without its frame", func(o object) { o["tee-evidence"] = primary(o) }, "want primary_evidence"},
		{"no primary evidence", func(o object) { delete(evidence(o), "primary_evidence") }, "want primary_evidence"},
		{"no additional evidence", func(o object) { delete(evidence(o), "additional_evidence") }, "want primary_evidence"},
		{"additional evidence", func(o object) { evidence(o)["additional_evidence"] = `{"nvidia":{}}` }, "evidence of devices is not verified"},
		{"additional evidence that is not text", func(o object) { evidence(o)["additional_evidence"] = object{} }, "want primary_evidence"},
		{"no key", func(o object) { delete(runtime(o), "tee-pubkey") }, "tee-pubkey: want a JWK"},
		{"key is a text", func(o object) { runtime(o)["tee-pubkey"] = "x" }, "tee-pubkey: want a JWK"},
		{"key is null", func(o object) { runtime(o)["tee-pubkey"] = nil }, "tee-pubkey: want kty EC"},
		{"RSA key", func(o object) {
			runtime(o)["tee-pubkey"] = object{"kty": "RSA", "alg": "RSA-OAEP-256", "n": "AQAB", "e": "AQAB"}
		}, "RSA keys are not supported"},
		{"post-quantum key", func(o object) { pubkey(o)["kty"] = "AKP" }, "tee-pubkey: want kty EC"},
		{"P-521 key", func(o object) { pubkey(o)["crv"] = "P-521" }, "want a key on P-256 or P-384"},
		{"curve of another size", func(o object) { pubkey(o)["crv"] = "P-384" }, "want coordinates of 48 bytes"},
		{"private key", func(o object) { pubkey(o)["d"] = "AA" }, "tee-pubkey: want kty EC"},
		{"key with an id", func(o object) { pubkey(o)["kid"] = "1" }, "tee-pubkey: want kty EC"},
		{"another algorithm", func(o object) { pubkey(o)["alg"] = "ES256" }, "tee-pubkey: want kty EC"},
		{"no algorithm", func(o object) { delete(pubkey(o), "alg") }, "tee-pubkey: want kty EC"},
		{"padded coordinate", func(o object) { pubkey(o)["x"] = pubkey(o)["x"].(string) + "=" }, "want coordinates of 32 bytes"},
		{"short coordinate", func(o object) { pubkey(o)["y"] = "AA" }, "want coordinates of 32 bytes"},
		{"point off the curve", func(o object) { pubkey(o)["y"] = pubkey(o)["x"] }, "not on its curve"},
		{"key of somebody else", func(o object) { runtime(o)["tee-pubkey"] = newGuest(t, "0.4.0", "snp").jwk(t) }, "does not verify: binding"},
		{"evidence is a text", func(o object) { evidence(o)["primary_evidence"] = "evil" }, shape},
		{"evidence of TDX", func(o object) { evidence(o)["primary_evidence"] = object{"quote": "AAAA"} }, shape},
		{"no report", func(o object) { delete(primary(o), "attestation_report") }, fields},
		{"report is bytes", func(o object) { primary(o)["attestation_report"] = []int{1, 2} }, shape},
		{"field that is not known", func(o object) { report(o)["_reserved_0"] = 0 }, shape},
		{"field too long", func(o object) { report(o)["chip_id"] = make([]int, 65) }, fields},
		{"field missing", func(o object) { delete(report(o), "measurement") }, fields},
		{"field null", func(o object) { report(o)["measurement"] = nil }, shape},
		{"field in base64", func(o object) { report(o)["host_data"] = "AAAA" }, shape},
		{"byte of 256", func(o object) { report(o)["host_data"] = append(make([]int, 31), 256) }, shape},
		{"byte below 0", func(o object) { report(o)["host_data"] = append(make([]int, 31), -1) }, shape},
		{"byte null", func(o object) { report(o)["host_data"] = append(make([]any, 31), 0) }, shape},
		{"byte a list", func(o object) { report(o)["host_data"] = [][]int{make([]int, 32)} }, shape},
		{"byte a float", func(o object) { report(o)["host_data"] = []float64{0.5} }, shape},
		{"number too large", func(o object) { report(o)["version"] = int64(1) << 40 }, shape},
		{"no processor", func(o object) { report(o)["cpuid_fam_id"] = nil }, fields},
		{"processor in version 2", func(o object) { report(o)["version"] = 2 }, fields},
		{"half of the vectors", func(o object) { report(o)["launch_mit_vector"] = 1 }, fields},
		{"another report data", func(o object) { report(o)["report_data"] = make([]int, 64) }, "does not verify: signature"},
		{"another measurement", func(o object) { report(o)["measurement"] = make([]int, 48) }, "does not verify: signature"},
		{"TCB of another product", func(o object) { report(o)["reported_tcb"].(object)["fmc"] = 1 }, "does not verify"},
		{"no certificate", func(o object) { primary(o)["cert_chain"] = nil }, "does not verify"},
		{"certificate is a text", func(o object) { primary(o)["cert_chain"] = []any{object{"cert_type": "VCEK", "data": "AAAA"}} }, shape},
		{"many certificates", func(o object) {
			chain := primary(o)["cert_chain"].([]any)
			for range attest.MaxCertificates {
				chain = append(chain, chain[1])
			}
			primary(o)["cert_chain"] = chain
		}, "does not verify: parse"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, "0.4.0", "snp")
			g.auth(t, b)
			r := key.Report()
			r.ReportData = g.reportData(t)
			ev := key.Evidence(r)
			// Through JSON, so that the cases find generic values.
			var body object
			if err := json.Unmarshal(must[[]byte](t)(json.Marshal(g.attestation(t, snpEvidence(ev.Data, ev.Certificates...)))), &body); err != nil {
				t.Fatal(err)
			}
			c.change(body)
			w := g.attest(t, b, body)
			wantRefusal(t, w, 401, "AttestationError", c.detail)
			if strings.Contains(w.Body.String(), "evil") {
				t.Errorf("repeats what was sent: %s", w.Body)
			}
		})
	}
}

func TestQuotesRefused(t *testing.T) {
	b := newBroker(t, tee.Input{At: at}, nil)
	big := base64.StdEncoding.EncodeToString(make([]byte, tee.MaxEvidence+1))
	for name, c := range map[string]struct{ tee, evidence, detail string }{
		"TDX no quote":        {"tdx", `{}`, "quote: want base64"},
		"TDX empty quote":     {"tdx", `{"quote":"","cc_eventlog":null}`, "quote: want base64"},
		"TDX base64url":       {"tdx", `{"quote":"-_-_","cc_eventlog":null}`, "quote: want base64"},
		"TDX unpadded":        {"tdx", `{"quote":"AA","cc_eventlog":null}`, "quote: want base64"},
		"TDX spare bits":      {"tdx", `{"quote":"AB==","cc_eventlog":null}`, "quote: want base64"},
		"TDX line break":      {"tdx", `{"quote":"AAAA\n","cc_eventlog":null}`, "quote: want base64"},
		"TDX too large":       {"tdx", `{"quote":"` + big + `","cc_eventlog":null}`, "at most 65536 bytes"},
		"TDX log":             {"tdx", `{"quote":"AAAA","cc_eventlog":"AA"}`, "cc_eventlog: want base64"},
		"TDX unknown member":  {"tdx", `{"quote":"AAAA","evil":1}`, "evidence of TDX"},
		"TDX not a quote":     {"tdx", `{"quote":"AAAA"}`, "does not verify: parse"},
		"SGX unknown member":  {"sgx", `{"quote":"AAAA","cc_eventlog":null}`, "evidence of SGX"},
		"SGX not a quote":     {"sgx", `{"quote":"AAAA"}`, "does not verify: parse"},
		"Azure no verifier":   {"azsnpvtpm", `{"version":1}`, "does not verify: unsupported"},
		"Azure too large":     {"aztdxvtpm", `{"version":"` + big + `"}`, "at most 65536 bytes"},
		"TDX quote in capita": {"tdx", `{"QUOTE":"AAAA"}`, "want an Attestation"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, "0.4.0", c.tee)
			g.auth(t, b)
			wantRefusal(t, g.attest(t, b, g.attestation(t, json.RawMessage(c.evidence))), 401, "AttestationError", c.detail)
		})
	}
}

func TestAttestWithoutASession(t *testing.T) {
	b := newBroker(t, tee.Input{}, nil)
	wantRefusal(t, b.post(t, rcar.PathAttest, "{}"), 401, "AttestationError", "no session")
	for _, id := range []string{"", "evil", strings.Repeat("0", 32)} {
		w := b.post(t, rcar.PathAttest, "{}", &http.Cookie{Name: "kbs-session-id", Value: id})
		wantRefusal(t, w, 401, "AttestationError", "no such session")
	}
	g := newGuest(t, "0.4.0", "snp")
	g.auth(t, b)
	wantRefusal(t, b.post(t, rcar.PathAttest, strings.Repeat(" ", rcar.MaxAttestation+1), g.cookie), 401, "AttestationError", "more than 1048576 bytes")
}

// What the functions of the configuration say decides, and a careless one is not
// enough for a token.
func TestConfigDecides(t *testing.T) {
	good := func(_ context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
		return &attest.Verified{Claims: tee.Claims{TEE: ev.Kind, ReportData: reportData[:], TCB: tee.TCBUpToDate}, At: at}, nil
	}
	claims := func(c tee.Claims) func(context.Context, tee.Evidence, [64]byte) (*attest.Verified, error) {
		return func(context.Context, tee.Evidence, [64]byte) (*attest.Verified, error) {
			return &attest.Verified{Claims: c, At: at}, nil
		}
	}
	issue := func(token string, err error) func(context.Context, *attest.Verified, *ecdsa.PublicKey, []byte) (string, error) {
		return func(context.Context, *attest.Verified, *ecdsa.PublicKey, []byte) (string, error) { return token, err }
	}
	cases := []struct {
		name            string
		change          func(*rcar.Config)
		problem, detail string
	}{
		{"nothing verified", func(c *rcar.Config) {
			c.Verify = func(context.Context, tee.Evidence, [64]byte) (*attest.Verified, error) { return nil, nil }
		}, "AttestationError", "not verified"},
		{"verified without a binding", func(c *rcar.Config) { c.Verify = claims(tee.Claims{TEE: tee.SGX, ReportData: make([]byte, 64)}) }, "AttestationError", "another nonce"},
		{"verified without report data", func(c *rcar.Config) { c.Verify = claims(tee.Claims{TEE: tee.SGX}) }, "AttestationError", "another nonce"},
		{"verified with the digest alone", func(c *rcar.Config) {
			c.Verify = func(_ context.Context, _ tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
				return &attest.Verified{Claims: tee.Claims{TEE: tee.SGX, ReportData: reportData[:48]}, At: at}, nil
			}
		}, "AttestationError", "another nonce"},
		{"verified another TEE", func(c *rcar.Config) { c.Verify = claims(tee.Claims{TEE: tee.Software, ReportData: make([]byte, 64)}) }, "AttestationError", "not verified"},
		{"policy", func(c *rcar.Config) {
			c.Verify, c.Issue = good, issue("", &attest.AppraisalError{Failures: []tee.Failure{{Code: attest.CodeTCB, Got: "evil"}, {Code: attest.CodeMeasurement}}})
		}, "PolicyDeny", "refused by policy: measurement, tcb"},
		{"trouble", func(c *rcar.Config) { c.Verify, c.Issue = good, issue("", errors.New("evil")) }, "AttestationError", "could not be checked"},
		{"no token", func(c *rcar.Config) { c.Verify, c.Issue = good, issue("", nil) }, "AttestationError", "no token"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t, tee.Input{}, c.change)
			g := newGuest(t, "0.4.0", "sgx")
			g.auth(t, b)
			w := g.attest(t, b, g.attestation(t, map[string]any{"quote": "AAAA"}))
			wantRefusal(t, w, 401, c.problem, c.detail)
			if strings.Contains(w.Body.String(), "evil") {
				t.Errorf("says what it should not: %s", w.Body)
			}
		})
	}
	t.Run("a key on P-384", func(t *testing.T) {
		b := newBroker(t, tee.Input{}, func(c *rcar.Config) { c.Verify = good })
		g := newGuest(t, "0.4.0", "sgx")
		g.key = p384(t)
		g.auth(t, b)
		g.wantToken(t, b, g.attest(t, b, g.attestation(t, map[string]any{"quote": "AAAA"})))
	})
}

func p384(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
}
