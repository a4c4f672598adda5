package maa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

func wantClaims(t *testing.T, got, want map[string]any) {
	t.Helper()
	for name, v := range want {
		if !reflect.DeepEqual(got[name], v) {
			t.Errorf("%s: %v, want %v", name, got[name], v)
		}
	}
}

func TestGuest(t *testing.T) {
	g := newGuest(newWorld(t))
	claims := g.open("", g.request(), g.decrypt)
	wantClaims(t, claims, map[string]any{
		"x-ms-attestation-type": "azurevm", "x-ms-azurevm-attestation-protocol-ver": "2.0", "x-ms-azurevm-attested-pcrs": []any{0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0},
		"x-ms-azurevm-ostype": "Linux", "x-ms-azurevm-osdistro": "Ubuntu", "x-ms-azurevm-osbuild": "NotApplication", "x-ms-azurevm-osversion-major": 22.0,
		"x-ms-azurevm-osversion-minor": 4.0, "x-ms-azurevm-is-windows": false, "x-ms-azurevm-vmid": "A80B", "secureboot": true, "x-ms-compliance-status": nil, "nonce": nil,
		"x-ms-runtime": map[string]any{"client-payload": map[string]any{"nonce": "MTIzNA=="}, "keys": []any{map[string]any{
			"kid": "TpmEphemeralEncryptionKey", "kty": "RSA", "key_ops": []any{"encrypt"}, "e": "AQAB", "n": url64(g.key.N.Bytes()),
		}}},
	})
	hardware, _ := claims["x-ms-isolation-tee"].(map[string]any)
	digest := sha256.Sum256([]byte(runtimeOf(g.ak.Public())))
	var runtime map[string]any
	if err := json.Unmarshal([]byte(runtimeOf(g.ak.Public())), &runtime); err != nil {
		t.Fatal(err)
	}
	wantClaims(t, hardware, map[string]any{
		"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": nil, "x-ms-runtime": runtime, "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-vmpl": 0.0,
		"x-ms-sevsnpvm-reportdata": hex.EncodeToString(digest[:]) + strings.Repeat("0", 64),
	})
	for _, name := range []string{"guestsvn", "reportid", "launchmeasurement", "bootloader-svn"} {
		if hardware["x-ms-sevsnpvm-"+name] == nil {
			t.Errorf("no %s in %v", name, hardware)
		}
	}
}

// TestGuestForms: what Azure's clients send differs in some ways.
func TestGuestForms(t *testing.T) {
	for name, change := range map[string]func(g *guestVM){
		"Python": func(g *guestVM) {
			g.change = func(info, tpmInfo, isolation map[string]any) {
				info["OSVersionMajor"], info["ClientPayload"] = "22", map[string]any{"user-claims": map[string]any{"nonce": "x", "Index": 1}}
				area := publicArea(&g.ak.PublicKey, tpmtest.AKAttributes, uint16(tpm.RSASSA), nil)
				tpmInfo["AikPub"] = std64(append(append(sizedBytes(area), sizedBytes(nameOf(area))...), sizedBytes(g.tpm.Template.QualifiedSigner)...))
				ev := isolation["Evidence"].(map[string]any)
				for name, v := range ev {
					b, _ := base64.StdEncoding.DecodeString(v.(string))
					ev[name] = url64(b)
				}
			}
		},
		"no payload": func(g *guestVM) {
			g.change = func(info, _, _ map[string]any) { info["ClientPayload"] = nil }
		},
		"no log": func(g *guestVM) {
			g.change = func(info, _, _ map[string]any) { info["TcgLogs"] = "" }
		},
		"Windows": func(g *guestVM) {
			g.tpm.Template.Selections[0].Indices = []uint32{0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14}
			g.change = func(info, _, _ map[string]any) { info["OSType"] = std64([]byte("Windows")) }
		},
		"key with adminWithPolicy and RSAES": func(g *guestVM) {
			g.attributes, g.scheme = g.attributes|tpm.AdminWithPolicy, 0x15
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(newWorld(t))
			change(g)
			claims := g.open("", g.request(), g.decrypt)
			if claims["x-ms-azurevm-is-windows"] != (name == "Windows") || claims["x-ms-azurevm-osversion-major"] != 22.0 {
				t.Errorf("claims %v", claims)
			}
			if want := any(true); name == "no log" == (claims["secureboot"] == want) {
				t.Errorf("secureboot %v", claims["secureboot"])
			}
		})
	}
}

// TestGuestOnTDX: the other hardware.
func TestGuestOnTDX(t *testing.T) {
	g := newGuest(newWorld(t))
	runtime := runtimeOf(g.ak.Public())
	quote := g.tdQuote(runtime, nil).Data
	g.change = func(_, _, isolation map[string]any) {
		isolation["Type"] = "Tdx"
		isolation["Evidence"] = map[string]any{"Proof": std64(quote), "RunTimeData": std64([]byte(runtime))}
	}
	claims := g.open("", g.request(), g.decrypt)
	hardware, _ := claims["x-ms-isolation-tee"].(map[string]any)
	digest := sha256.Sum256([]byte(runtime))
	wantClaims(t, hardware, map[string]any{
		"x-ms-attestation-type": "tdxvm", "tdx_mrtd": strings.Repeat("7d", 48), "attester_tcb_status": "UpToDate",
		"tdx_report_data": hex.EncodeToString(digest[:]) + strings.Repeat("0", 64),
	})
	// A quote for other runtime data, and one that is altered.
	quote = g.tdQuote("{}", nil).Data
	g.refused(http.MethodPost, "/attest/AzureGuest"+version, "", g.request(), 400, "AttestationFailed", "runtime data")
	quote = g.tdQuote(runtime, nil).Data
	quote[100] ^= 1
	g.refused(http.MethodPost, "/attest/AzureGuest"+version, "", g.request(), 400, "AttestationFailed", "signature")
}

// TestGuestPolicy: the provider's policy for AzureGuest decides, sees the vTPM's and
// the hardware's claims, and cannot make the service's own.
func TestGuestPolicy(t *testing.T) {
	w := newWorld(t)
	w.create(maa.Settings{Name: "mine"})
	set := func(text string) {
		t.Helper()
		if status, answer := w.do(http.MethodPut, "/azure/mine/policies/AzureGuest"+version, "alice", envelope(text)); status != http.StatusOK {
			t.Fatal(status, answer)
		}
	}
	set(`version= 1.2; authorizationrules { [type=="secureboot", value==true] && [type=="x-ms-azurevm-vmid", value=="A80B"] => permit(); };
		issuancerules { => issue(type="mine", value=1); => issue(type="x-ms-azurevm-vmid", value="other"); => issue(type="x-ms-azurevm-ostype", value="other");
		c:[type=="x-ms-isolation-tee"] => issue(type="debug", value=JmesPath(c.value, "\"x-ms-sevsnpvm-is-debuggable\""));
		c:[type=="x-ms-runtime"] => issue(type="kid", value=JmesPath(c.value, "keys[0].kid")); };`)
	g := newGuest(w)
	claims := g.open("/azure/mine", g.request(), g.decrypt)
	wantClaims(t, claims, map[string]any{"mine": 1.0, "x-ms-azurevm-vmid": "A80B", "x-ms-azurevm-ostype": "Linux", "debug": "false", "kid": `"TpmEphemeralEncryptionKey"`})
	g.tpm.Boot(false)
	w.refused(http.MethodPost, "/azure/mine/attest/AzureGuest"+version, "", g.request(), 400, "PolicyEvaluationError", "secureboot")
	// The attestation key's certificate is not looked at, so nobody may rely on it.
	set(`version= 1.2; configurationrules { => issueproperty(type="require_valid_aik_cert", value=true); }; authorizationrules { => permit(); }; issuancerules {};`)
	w.refused(http.MethodPost, "/azure/mine/attest/AzureGuest"+version, "", newGuest(w).request(), 400, "PolicyEvaluationError", "require_valid_aik_cert")
	set(`version= 1.0; authorizationrules { => deny(); }; issuancerules {};`)
	w.refused(http.MethodPost, "/azure/mine/attest/AzureGuest"+version, "", newGuest(w).request(), 400, "PolicyEvaluationError", "")
}

func TestGuestRefuses(t *testing.T) {
	w := newWorld(t)
	keys, err := guestKeys()
	if err != nil {
		t.Fatal(err)
	}
	const bad, failed = "InvalidParameter", "AttestationFailed"
	info := func(name string, v any) func(*guestVM) {
		return func(g *guestVM) { g.change = func(info, _, _ map[string]any) { info[name] = v } }
	}
	inTPM := func(name string, v any) func(*guestVM) {
		return func(g *guestVM) { g.change = func(_, t, _ map[string]any) { t[name] = v } }
	}
	isolation := func(name string, v any) func(*guestVM) {
		return func(g *guestVM) { g.change = func(_, _, i map[string]any) { i[name] = v } }
	}
	attributes := func(set, clear tpm.Attributes) func(*guestVM) {
		return func(g *guestVM) { g.attributes = keyAttributes&^clear | set }
	}
	for name, c := range map[string]struct {
		change func(g *guestVM)
		code   string
		text   string
	}{
		// The hardware and the paravisor.
		"trusted launch":            {isolation("Type", "TrustedLaunch"), bad, "TrustedLaunch"},
		"no isolation":              {isolation("Type", "Undefined"), bad, "IsolationInfo.Type"},
		"SNP as TDX":                {isolation("Type", "Tdx"), failed, "hardware"},
		"runtime names another key": {func(g *guestVM) { g.runtime = runtimeOf(keys[2].Public()) }, failed, "signature"},
		"runtime data altered": {func(g *guestVM) {
			g.change = func(_, _, i map[string]any) {
				i["Evidence"].(map[string]any)["RunTimeData"] = std64([]byte(runtimeOf(keys[2].Public())))
			}
		}, failed, "runtime data"},
		"runtime data with a member twice": {func(g *guestVM) { g.runtime = `{"keys":[],"keys":[]}` }, bad, "RunTimeData"},
		"runtime data too large":           {func(g *guestVM) { g.runtime = `{"a":"` + strings.Repeat("a", 4000) + `"}` }, failed, "runtime data"},
		"a report for software beside it":  {func(g *guestVM) { g.vmpl = 2 }, failed, "vmpl"},
		"no evidence":                      {isolation("Evidence", map[string]any{}), bad, "Proof"},
		"a report that is short": {isolation("Evidence", map[string]any{
			"Proof": std64([]byte(`{"SnpReport":"AAAA","VcekCertChain":""}`)), "RunTimeData": std64([]byte("{}")),
		}), failed, "hardware report"},
		"endorsements of a utility VM": {isolation("Evidence", map[string]any{
			"Proof":       std64([]byte(`{"SnpReport":"AAAA","VcekCertChain":"","Endorsements":"` + url64([]byte(`{"Uvm":["AA"]}`)) + `"}`)),
			"RunTimeData": std64([]byte("{}")),
		}), bad, "Endorsements"},
		// The attestation key and the quote.
		"AikPub of another key": {inTPM("AikPub", std64(sizedBytes(publicArea(&keys[2].PublicKey, tpmtest.AKAttributes, 0x14, nil)))), failed, "AikPub"},
		"AikPub with another name": {func(g *guestVM) {
			area := publicArea(&g.ak.PublicKey, tpmtest.AKAttributes, 0x14, nil)
			inTPM("AikPub", std64(append(append(sizedBytes(area), sizedBytes(nameOf(nil))...), sizedBytes(g.tpm.Template.QualifiedSigner)...)))(g)
		}, failed, "name"},
		"AikPub with other ancestors": {func(g *guestVM) {
			area := publicArea(&g.ak.PublicKey, tpmtest.AKAttributes, 0x14, nil)
			inTPM("AikPub", std64(append(append(sizedBytes(area), sizedBytes(nameOf(area))...), sizedBytes(nameOf(nil))...)))(g)
		}, failed, "AikPub"},
		"AikPub of nonsense":  {inTPM("AikPub", "AAAA"), failed, "public area"},
		"quote by another AK": {func(g *guestVM) { g.tpm.Key = keys[2] }, failed, "signature"},
		"no quote":            {inTPM("PcrQuote", ""), bad, "PcrQuote"},
		"a certification as the quote": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) {
				t["PcrQuote"], t["PcrSignature"] = t["EncKeyCertifyInfo"], t["EncKeyCertifyInfoSignature"]
			}
		}, failed, "quote"},
		"PCR altered": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) {
				t["PCRs"].([]any)[3].(map[string]any)["Digest"] = std64(make([]byte, 32))
			}
		}, failed, "pcrs"},
		"PCR missing": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) { t["PCRs"], t["PcrSet"] = t["PCRs"].([]any)[1:], t["PcrSet"].([]any)[1:] }
		}, failed, "pcrs"},
		"PCR that is not quoted": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) {
				t["PCRs"] = append(t["PCRs"].([]any), map[string]any{"Index": 9, "Digest": std64(make([]byte, 32))})
				t["PcrSet"] = append(t["PcrSet"].([]any), 9)
			}
		}, failed, "pcrs"},
		"PCR twice": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) {
				t["PCRs"].([]any)[1].(map[string]any)["Index"], t["PcrSet"].([]any)[1] = 0, 0
			}
		}, bad, "each once"},
		"another bank beside": {func(g *guestVM) {
			g.tpm.Template.Selections = append(g.tpm.Template.Selections, tpm.Selection{Algorithm: eventlog.SHA384})
		}, failed, "registers that are quoted and no others"},
		"PCR beyond all": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) { t["PCRs"].([]any)[7].(map[string]any)["Index"] = 24 }
		}, bad, "PCRs"},
		"another PCR set": {inTPM("PcrSet", []int{0}), bad, "PcrSet"},
		"a log of another boot": {func(g *guestVM) {
			other := tpmtest.WithKey(keys[2], tpm.RSASSA)
			other.Boot(false)
			info("TcgLogs", std64(other.Log))(g)
		}, failed, "event_log"},
		"a log of nonsense": {info("TcgLogs", std64([]byte("nonsense"))), failed, "event log"},
		// The key that the token is encrypted to.
		"certified by another AK": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) {
				b, _ := base64.StdEncoding.DecodeString(t["EncKeyCertifyInfo"].(string))
				t["EncKeyCertifyInfoSignature"] = std64(tpmtest.WithKey(keys[2], tpm.RSASSA).RawSignature(b))
			}
		}, failed, "signature of the certification"},
		"certify of another key": {func(g *guestVM) {
			g.public = func([]byte) []byte {
				return publicArea(&keys[2].PublicKey, keyAttributes, 0, policyOf(g.tpm.Quote(nil)))
			}
		}, failed, "certification"},
		"the quote as the certification": {func(g *guestVM) {
			g.change = func(_, t, _ map[string]any) {
				t["EncKeyCertifyInfo"], t["EncKeyCertifyInfoSignature"] = t["PcrQuote"], t["PcrSignature"]
			}
		}, failed, "certification"},
		"not made by a TPM":               {func(g *guestVM) { g.certify = func(b []byte) []byte { b[0] = 0; return b } }, failed, "certification"},
		"bytes behind the certification":  {func(g *guestVM) { g.certify = func(b []byte) []byte { return append(b, 0) } }, failed, "certification"},
		"certified after a resume":        {func(g *guestVM) { g.restarts = 2 }, failed, "boot"},
		"certified in another boot":       {func(g *guestVM) { g.resets = 2 }, failed, "boot"},
		"key that signs":                  {attributes(tpm.Sign, 0), failed, "attributes"},
		"key that is restricted":          {attributes(tpm.Restricted, 0), failed, "attributes"},
		"key for a password":              {attributes(tpm.UserWithAuth, 0), failed, "attributes"},
		"key that does not decrypt":       {attributes(0, tpm.Decrypt), failed, "attributes"},
		"key that can leave":              {attributes(0, tpm.FixedTPM), failed, "attributes"},
		"key that can get another parent": {attributes(0, tpm.FixedParent), failed, "attributes"},
		"key from outside":                {attributes(0, tpm.SensitiveDataOrigin), failed, "attributes"},
		"key with unknown attributes":     {attributes(1<<30, 0), failed, "attributes"},
		"key for OAEP":                    {func(g *guestVM) { g.scheme = 0x17 }, failed, "RSAES"},
		"key without a policy":            {func(g *guestVM) { g.policy = []byte{} }, failed, "policy"},
		"key for another state": {func(g *guestVM) {
			g.policy = policyOf(tpm.Quote{Selections: g.tpm.Template.Selections, PCRDigest: make([]byte, 32)})
		}, failed, "policy"},
		"key for fewer registers": {func(g *guestVM) {
			q := g.tpm.Quote(nil)
			q.Selections = []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: []uint32{0}}}
			g.policy = policyOf(q)
		}, failed, "policy"},
		"key too small": {func(g *guestVM) {
			g.public = func(b []byte) []byte {
				b = b[:len(b)-2-256-6] // the sizes and the modulus
				return append(append(b, 4, 0, 0, 0, 0, 0, 0, 128), g.key.N.Bytes()[:128]...)
			}
		}, failed, "2048"},
		"key of nonsense":          {inTPM("EncKeyPub", "AAAA"), failed, "public area"},
		"bytes behind the key":     {func(g *guestVM) { g.public = func(b []byte) []byte { return append(b, 0) } }, failed, "public area"},
		"no key":                   {inTPM("EncKeyPub", ""), bad, "EncKeyPub"},
		"no certification":         {inTPM("EncKeyCertifyInfo", ""), bad, "EncKeyCertifyInfo"},
		"no certification's proof": {inTPM("EncKeyCertifyInfoSignature", ""), bad, "EncKeyCertifyInfoSignature"},
		// What the guest says of itself, and the form of it all.
		"another protocol":             {info("AttestationProtocolVersion", "1.0"), bad, "AttestationProtocolVersion"},
		"no protocol":                  {info("AttestationProtocolVersion", nil), bad, "AttestationProtocolVersion"},
		"a member more":                {info("RequireSecureBoot", true), bad, "RequireSecureBoot"},
		"a member more in TpmInfo":     {inTPM("Nonce", "AA"), bad, "Nonce"},
		"another spelling":             {info("osType", "AA"), bad, "osType"},
		"a name that is not base64":    {info("OSDistro", "*"), bad, "OSDistro"},
		"a name that is not text":      {info("OSBuild", "/w=="), bad, "OSBuild"},
		"a name that is long":          {info("OSType", std64(bytes.Repeat([]byte("x"), 300))), bad, "OSType"},
		"a version of a list":          {info("OSVersionMajor", []int{1}), bad, "OSVersionMajor"},
		"a version below 0":            {info("OSVersionMinor", -1), bad, "OSVersionMinor"},
		"a version that is long":       {info("OSVersionMinor", strings.Repeat("1", 300)), bad, "OSVersionMinor"},
		"a payload of a list":          {info("ClientPayload", []int{1}), bad, "ClientPayload"},
		"a payload that is large":      {info("ClientPayload", map[string]any{"a": strings.Repeat("a", 20000)}), bad, "ClientPayload"},
		"a certificate of no base64":   {inTPM("AikCert", "*"), bad, "AikCert"},
		"a log of no base64":           {info("TcgLogs", "*"), bad, "TcgLogs"},
		"a signature of line breaks":   {inTPM("PcrSignature", "AA\nAA"), bad, "PcrSignature"},
		"evidence of another form":     {isolation("Evidence", []int{1}), bad, "AttestationInfo"},
		"a proof that is not the JSON": {isolation("Evidence", map[string]any{"Proof": "AAAA", "RunTimeData": std64([]byte("{}"))}), bad, "SnpReport"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			g := newGuest(&w)
			c.change(g)
			w.refused(http.MethodPost, "/attest/AzureGuest"+version, "", g.request(), 400, c.code, c.text)
		})
	}
}

// TestGuestBody: the outer form.
func TestGuestBody(t *testing.T) {
	w := newWorld(t)
	const bad = "InvalidParameter"
	for body, text := range map[string]string{
		"":                                  "JSON",
		`{}`:                                "AttestationInfo",
		`{"AttestationInfo":"*"}`:           "AttestationInfo",
		`{"AttestationInfo":"AA"}`:          "AttestationInfo",
		`{"AttestationInfo":"W10"}`:         "AttestationInfo", // []
		`{"AttestationInfo":"","quote":""}`: "quote",
		`{"attestationInfo":"*"}`:           "AttestationInfo",
		`{"attestationinfo":""}`:            "attestationinfo",
		`{"AttestationInfo":"e30","attestationInfo":"e30"}`:                                                                            "one of them",
		`{"AttestationInfo":"e30","AttestationInfo":"e30"}`:                                                                            "twice",
		`{"AttestationInfo":"` + url64([]byte(`{"OSType":"","OSType":""}`)) + `"}`:                                                     "twice",
		`{"AttestationInfo":"` + url64([]byte(`{"ClientPayload":{"a":1,"a":2}}`)) + `"}`:                                               "twice",
		`{"AttestationInfo":"` + url64([]byte(`{"ClientPayload":`+strings.Repeat(`{"a":`, 20)+`1`+strings.Repeat("}", 20)+`}`)) + `"}`: "nested",
	} {
		w.refused(http.MethodPost, "/attest/AzureGuest"+version, "", body, 400, bad, text)
	}
	w.refused(http.MethodPost, "/attest/AzureGuest"+version, "", strings.Repeat(" ", maa.MaxRequest+1), 413, "RequestTooLarge", "")
	w.refused(http.MethodGet, "/attest/AzureGuest"+version, "", nil, 405, "MethodNotAllowed", "")
}

// TestGuestJudged: without a record there is no token, and without collateral the
// guest is to ask again.
func TestGuestJudged(t *testing.T) {
	g := newGuest(newWorld(t))
	j := g.watched()
	j.fails = errors.New("no room")
	g.refused(http.MethodPost, "/attest/AzureGuest"+version, "", g.request(), 500, "InternalError", "")
	j.fails = nil
	if claims := g.open("", g.request(), g.decrypt); claims["jti"] != j.records[1].TokenID || j.records[1].TEE != tee.AzureSNP {
		t.Errorf("told of %+v: %v", j.records[1], claims)
	}
	g.collateral[tee.SNP] = tee.Input{Roots: g.collateral[tee.SNP].Roots}
	g.refused(http.MethodPost, "/attest/AzureGuest"+version, "", g.request(), 503, "CollateralUnavailable", "collateral_missing")
}

// TestGuestMutations: no change of one bit of what makes the token safe passes.
func TestGuestMutations(t *testing.T) {
	w := newWorld(t)
	g := newGuest(w)
	var good map[string]any
	g.change = func(_, tpmInfo, _ map[string]any) { good = tpmInfo }
	g.request()
	hardware := g.snpIsolation(runtimeOf(g.ak.Public()))
	for _, member := range []string{"EncKeyCertifyInfo", "EncKeyCertifyInfoSignature", "EncKeyPub"} {
		b, err := base64.StdEncoding.DecodeString(good[member].(string))
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			altered := bytes.Clone(b)
			altered[i] ^= 1 << (i % 8)
			g.change = func(_, tpmInfo, _ map[string]any) { tpmInfo[member] = std64(altered) }
			status, answer := g.do(http.MethodPost, "/attest/AzureGuest"+version, "", g.body(maps.Clone(good), hardware))
			if status != http.StatusBadRequest {
				t.Errorf("%s: byte %d altered: %d %v", member, i, status, answer)
			}
		}
	}
}
