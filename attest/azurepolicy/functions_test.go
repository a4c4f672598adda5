package azurepolicy_test

import (
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/google/go-cmp/cmp"
)

// The examples of "Claim rule functions", with what they are said to give.
func TestFunctions(t *testing.T) {
	for _, c := range []struct {
		name  string
		in    []azurepolicy.Claim
		rules string
		want  map[string]any
	}{
		{"JmesPath, literals", nil, `=> issue(type="r", value=JmesPath("{\"foo\": \"bar\"}", "foo"));`, map[string]any{"r": `"bar"`}},
		{"JmesPath, claims", claims("", "JsonData", `{"values": [0,1,2,3,4]}`, "Query", "values[2]"),
			`c1:[type="JsonData"] && c2:[type=="Query"] => issue(type="r", value=JmesPath(c1.value, c2.value));`, map[string]any{"r": "2"}},
		{"JmesPath, nothing", nil, `=> issue(type="r", value=JmesPath("{}", "foo"));`, map[string]any{"r": "null"}},
		{"JsonToClaimValue, primitives", claims("", "i", "100", "b", "true", "s", `"abc"`),
			`c:[type=="i"] => issue(type="I", value=JsonToClaimValue(c.value)); c:[type=="b"] => issue(type="B", value=JsonToClaimValue(c.value)); c:[type=="s"] => issue(type="S", value=JsonToClaimValue(c.value));`,
			map[string]any{"I": int64(100), "B": true, "S": "abc"}},
		{"JsonToClaimValue, array", claims("", "d", `[0, "abc", true, null]`), `c:[type=="d"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": []any{int64(0), "abc", true}}},
		{"JsonToClaimValue, null", claims("", "d", `null`), `c:[type=="d"] => issue(type="r", value=JsonToClaimValue(c.value)); ![type=="r"] => issue(type="absent", value=true);`, map[string]any{"absent": true}},
		{"IsSubsetOf", claims("", "Subset", "abc", "Subset", 100, "Superset", true, "Superset", "abc", "Superset", 100),
			`c1:[type == "Subset"] && c2:[type=="Superset"] => issue(type="in", value=IsSubsetOf(c1.value, c2.value)); c1:[type == "Subset"] && c2:[type=="Superset"] => issue(type="out", value=IsSubsetOf(c2.value, c1.value));`,
			map[string]any{"in": true, "out": false}},
		{"AppendString", claims("", "String1", "abc", "String2", "xyz"), `c:[type=="String1"] && c2:[type=="String2"] => issue(type="r", value=AppendString(c.value, c2.value));`, map[string]any{"r": "abcxyz"}},
		{"NegateBool", claims("", "Input", true), `c:[type=="Input"] => issue(type="r", value=NegateBool(c.value));`, map[string]any{"r": false}},
		{"ContainsOnlyValue", claims("", "Set", 100, "Set", 101, "One", 7), `c:[type=="Set"] => issue(type="r", value=ContainsOnlyValue(c.value, 100)); c:[type=="One"] => issue(type="s", value=ContainsOnlyValue(c.value, 7)); c:[type=="One"] => issue(type="t", value=ContainsOnlyValue(JsonToClaimValue("[]"), 7));`,
			map[string]any{"r": false, "s": true, "t": false}},
		{"absence", claims("", "Claim1", 100, "Claim2", 200), `![type=="Claim3"] => issue(type="Claim3", value=300);`, map[string]any{"Claim3": int64(300)}},
		{"in a condition", claims("", "json", `{"k":["x","y"]}`, "k", "y", "k", "z"),
			`c:[type=="json"] && d:[type=="k", value==JsonToClaimValue(JmesPath(c.value, "k"))] => issue(claim=d);`, map[string]any{"k": "y"}},
		{"of claims that are compared", claims("", "a", "x", "a", "y", "b", "y"),
			`c:[type=="a"] && [type=="b", value==c.value] => issue(type="r", value=ContainsOnlyValue(c.value, "y"));`, map[string]any{"r": true}},
	} {
		out, err := parse(t, issuing(c.rules)).Evaluate(c.in, azurepolicy.Options{})
		if d := cmp.Diff(c.want, out.Issued); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", c.name, err, d)
		}
	}
}

// A boot log in the form that the samples of version 1.2 query.
const bootEvents = `{"Events":[
{"EventSeq":1,"PcrIndex":7,"EventTypeString":"EV_EFI_VARIABLE_DRIVER_CONFIG","ProcessedData":{"VariableGuid":"8BE4DF61-93CA-11D2-AA0D-00E098032B8C","UnicodeName":"SecureBoot","VariableData":"AQ"}},
{"EventSeq":2,"PcrIndex":12,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_APPLICATION_SVN":7,"EVENT_CODEINTEGRITY":true,"EVENT_BITLOCKER_UNLOCK":{"Value":0},
 "EVENT_LOADEDMODULE_AGGREGATION":[{"EVENT_IMAGEVALIDATED":true,"EVENT_FILEPATH":"\\Windows\\System32\\Drivers\\WdBoot.sys"},{"EVENT_IMAGEVALIDATED":false,"EVENT_FILEPATH":"x"}]}}},
{"EventSeq":3,"PcrIndex":13,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_CODEINTEGRITY":true,"EVENT_BITLOCKER_UNLOCK":{"Value":4}}}},
{"EventSeq":4,"PcrIndex":12,"EventTypeString":"EV_SEPARATOR","ProcessedData":{}},
{"EventSeq":5,"PcrIndex":20,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_DRTM_SMM":{"Value":3},"EVENT_TRUSTBOUNDARY":{}}},
{"EventSeq":6,"PcrIndex":20,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_DRTM_STATE_AUTH":{"SignatureValid":true}}}}]}`

// The queries of Microsoft's samples for TPM attestation: secure boot, code
// integrity, BitLocker, the antimalware driver, the boot manager's SVN (a query
// that is built from the result of another) and System Guard.
const tpmSample = `version= 1.2;
authorizationrules { => permit(); };
issuancerules
{
// Secure boot
c:[type=="events", issuer=="AttestationService"] => add(type="efi", value=JmesPath(c.value, "Events[?EventTypeString == 'EV_EFI_VARIABLE_DRIVER_CONFIG' && ProcessedData.VariableGuid == '8BE4DF61-93CA-11D2-AA0D-00E098032B8C']"));
c:[type=="efi", issuer=="AttestationPolicy"] => issue(type="secureBootEnabled", value=JsonToClaimValue(JmesPath(c.value, "[?ProcessedData.UnicodeName == 'SecureBoot'] | length(@) == ` + "`1`" + ` && @[0].ProcessedData.VariableData == 'AQ'")));
![type=="secureBootEnabled", issuer=="AttestationPolicy"] => issue(type="secureBootEnabled", value=false);
// Code integrity, in every boundary event
c:[type=="events", issuer=="AttestationService"] => add(type="bools", value=JmesPath(c.value, "Events[? EventTypeString == 'EV_EVENT_TAG' && (PcrIndex == ` + "`12` || PcrIndex == `13`" + `)].ProcessedData.EVENT_TRUSTBOUNDARY"));
c:[type=="bools", issuer=="AttestationPolicy"] => add(type="ciSet", value=JsonToClaimValue(JmesPath(c.value, "[*].EVENT_CODEINTEGRITY")));
c:[type=="ciSet", issuer=="AttestationPolicy"] => issue(type="codeIntegrityEnabled", value=ContainsOnlyValue(c.value, true));
![type=="codeIntegrityEnabled", issuer=="AttestationPolicy"] => issue(type="codeIntegrityEnabled", value=false);
// BitLocker: the first value that is not zero
c:[type=="bools", issuer=="AttestationPolicy"] => issue(type="bitlockerStatus", value=JsonToClaimValue(JmesPath(c.value, "[*].EVENT_BITLOCKER_UNLOCK | @[? Value != ` + "`0`" + `].Value | @[0]")));
// Early launch antimalware
c:[type=="bools", issuer=="AttestationPolicy"] => issue(type="elam", value=JsonToClaimValue(JmesPath(c.value, "[*].EVENT_LOADEDMODULE_AGGREGATION[] | [? EVENT_IMAGEVALIDATED == ` + "`true`" + ` && equals_ignore_case(EVENT_FILEPATH, '\\windows\\system32\\drivers\\wdboot.sys')] | @ != ` + "`null`" + `")));
// The boot manager's SVN, before the first separator
c:[type=="events", issuer=="AttestationService"] => add(type="sepSeq", value=JmesPath(c.value, "Events[? EventTypeString == 'EV_SEPARATOR'] | @[0].EventSeq"));
c:[type=="sepSeq", value != "null", issuer=="AttestationPolicy"] => add(type="clause", value=AppendString(AppendString("Events[? EventSeq < ` + "`\", c.value), \"`" + `"));
c:[type=="clause", issuer=="AttestationPolicy"] => add(type="svnQuery", value=AppendString(c.value, " && EventTypeString == 'EV_EVENT_TAG' && ProcessedData.EVENT_TRUSTBOUNDARY.EVENT_APPLICATION_SVN].ProcessedData.EVENT_TRUSTBOUNDARY.EVENT_APPLICATION_SVN | @[0]"));
c1:[type=="svnQuery", issuer=="AttestationPolicy"] && c2:[type=="events", issuer=="AttestationService"] => issue(type="bootMgrSvn", value=JsonToClaimValue(JmesPath(c2.value, c1.value)));
// System Guard
c:[type=="events", issuer=="AttestationService"] => add(type="drtm", value=JmesPath(c.value, "Events[? EventTypeString == 'EV_EVENT_TAG' && PcrIndex == ` + "`20`" + ` && ProcessedData.EVENT_TRUSTBOUNDARY.EVENT_DRTM_STATE_AUTH.SignatureValid != ` + "`null`] | length(@) == `1`" + ` && @[0] | @.{EventSeq:EventSeq, SignatureValid:ProcessedData.EVENT_TRUSTBOUNDARY.EVENT_DRTM_STATE_AUTH.SignatureValid}"));
c:[type=="drtm", issuer=="AttestationPolicy"] => issue(type="drtmMleValid", value=JsonToClaimValue(JmesPath(c.value, "SignatureValid")));
[type=="drtmMleValid", value==true, issuer=="AttestationPolicy"] && c:[type=="drtm", issuer=="AttestationPolicy"] => add(type="drtmSeq", value=JmesPath(c.value, "EventSeq"));
c:[type=="drtmSeq"] => add(type="smmQuery", value=AppendString(AppendString("Events[? PcrIndex == ` + "`20` && EventSeq < `\", c.value), \"`" + `].ProcessedData.EVENT_DRTM_SMM | length(@) == ` + "`1`" + ` && @[0] | @.Value"));
c1:[type=="smmQuery", issuer=="AttestationPolicy"] && c2:[type=="events", issuer=="AttestationService"] => issue(type="smmLevel", value=JsonToClaimValue(JmesPath(c2.value, c1.value)));
};
`

func TestSamplePolicyForTPM(t *testing.T) {
	p := parse(t, tpmSample)
	out, err := p.Evaluate(service("events", bootEvents), azurepolicy.Options{})
	want := map[string]any{
		"secureBootEnabled": true, "codeIntegrityEnabled": true, "bitlockerStatus": int64(4), "elam": true,
		"bootMgrSvn": int64(7), "drtmMleValid": true, "smmLevel": int64(3),
	}
	if d := cmp.Diff(want, out.Issued); err != nil || d != "" {
		t.Error(err, d)
	}
	// The same claims in the attester's own word count for nothing.
	out, err = p.Evaluate(claims("CustomClaim", "events", bootEvents), azurepolicy.Options{})
	if d := cmp.Diff(map[string]any{"secureBootEnabled": false, "codeIntegrityEnabled": false}, out.Issued); err != nil || d != "" {
		t.Error(err, d)
	}
}

// "Only those TPMs that match known PCRs", with claims made in the authorization
// rules.
func TestSamplePolicyForPCRs(t *testing.T) {
	p := parse(t, authorize(`
c:[type == "pcrs", issuer=="AttestationService"] => add(type="pcr0Validated", value=JsonToClaimValue(JmesPath(c.value, "PCRs[? Index == `+"`0`"+`].Digests.SHA256 | @[0] =='4c83' ")));
c:[type == "pcrs", issuer=="AttestationService"] => add(type="pcr1Validated", value=JsonToClaimValue(JmesPath(c.value, "PCRs[? Index == `+"`1`"+`].Digests.SHA256 | @[0] =='8c25' ")));
[type=="pcr0Validated", value==true] && [type=="pcr1Validated", value==true] => permit();`))
	for doc, want := range map[string]bool{
		`{"PCRs":[{"Index":0,"Digests":{"SHA256":"4c83"}},{"Index":1,"Digests":{"SHA256":"8c25"}}]}`: true,
		`{"PCRs":[{"Index":0,"Digests":{"SHA256":"4c83"}},{"Index":1,"Digests":{"SHA256":"0000"}}]}`: false,
		`{"PCRs":[{"Index":0,"Digests":{"SHA256":"4c83"}}]}`:                                         false,
		`{}`: false,
	} {
		out, err := p.Evaluate(service("pcrs", doc), azurepolicy.Options{})
		if err != nil || out.Permitted != want {
			t.Errorf("%s: got %v, %v\n%v", doc, out.Permitted, err, out.Trace)
		}
	}
}
