package releasepolicy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/attest/releasepolicy"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
)

const issuer = "https://shared.attest.example"

func parse(t testing.TB, s string) *releasepolicy.Policy {
	t.Helper()
	p, err := releasepolicy.Parse([]byte(s))
	if err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	return p
}

// one makes a policy of one authority.
func one(conditions string) string {
	return `{"version":"1.0.0","anyOf":[{"authority":"` + issuer + `","allOf":[` + conditions + `]}]}`
}

func claims(t testing.TB, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

const token = `{"x-ms-attestation-type":"azurevm","secureboot":true,"svn":3,"ratio":1.5,"big":9007199254740993,"text":"3","flagtext":"true",
"list":[1],"null":null,"a.b":"flat","a":{"c":"nested","x.y":"dotted","b2":{"c":7}},"twice.x":1,"twice":{"x":1},
"x-ms-isolation-tee":{"x-ms-attestation-type":"sevsnpvm","x-ms-compliance-status":"azure-compliant-cvm","x-ms-runtime":{"vm-configuration":{"secure-boot":true}}}}`

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		in   string
		want bool
		why  string
	}{
		{`{"claim":"x-ms-attestation-type","equals":"azurevm"}`, true, ""},
		{`{"claim":"x-ms-attestation-type","equals":"Azurevm"}`, false, `term 1.2.1: x-ms-attestation-type: want "Azurevm", got "azurevm"`},
		{`{"claim":"secureboot","equals":true}`, true, ""},
		{`{"claim":"secureboot","equals":false}`, false, "term 1.2.1: secureboot: want false, got true"},
		// Types are not converted, and another type meets nothing.
		{`{"claim":"secureboot","equals":"true"}`, false, `term 1.2.1: secureboot: want "true", got true, which is a boolean`},
		{`{"claim":"secureboot","notEquals":"true"}`, false, `term 1.2.1: secureboot: want not "true", got true, which is a boolean`},
		{`{"claim":"flagtext","equals":"true"}`, true, ""},
		{`{"claim":"flagtext","equals":true}`, false, `term 1.2.1: flagtext: want true, got "true", which is a text`},
		{`{"claim":"svn","equals":"3"}`, false, `term 1.2.1: svn: want "3", got 3, which is a number`},
		{`{"claim":"text","greater":1}`, false, `term 1.2.1: text: want > 1, got "3", which is a text`},
		{`{"claim":"svn","equals":3}`, true, ""},
		{`{"claim":"svn","equals":3.0}`, true, ""},
		{`{"claim":"svn","notEquals":3}`, false, "term 1.2.1: svn: want not 3, got 3"},
		{`{"claim":"svn","notEquals":4}`, true, ""},
		{`{"claim":"svn","greater":2}`, true, ""},
		{`{"claim":"svn","greater":3}`, false, "term 1.2.1: svn: want > 3, got 3"},
		{`{"claim":"svn","greaterOrEquals":3}`, true, ""},
		{`{"claim":"svn","greaterOrEquals":3.5}`, false, "term 1.2.1: svn: want >= 3.5, got 3"},
		{`{"claim":"svn","less":4}`, true, ""},
		{`{"claim":"svn","less":-4}`, false, "term 1.2.1: svn: want < -4, got 3"},
		{`{"claim":"svn","lessOrEquals":2}`, false, "term 1.2.1: svn: want <= 2, got 3"},
		{`{"claim":"ratio","less":1.6}`, true, ""},
		{`{"claim":"ratio","equals":1.5}`, true, ""},
		{`{"claim":"ratio","greater":2}`, false, "term 1.2.1: ratio: want > 2, got 1.5"},
		// A claim that is not there, and one that is neither of the three.
		{`{"claim":"missing","equals":"x"}`, false, `term 1.2.1: missing: want "x", got no such claim`},
		{`{"claim":"missing","notEquals":"x"}`, false, `term 1.2.1: missing: want not "x", got no such claim`},
		{`{"claim":"missing","exists":false}`, true, ""},
		{`{"claim":"missing","exists":true}`, false, "term 1.2.1: missing: want the claim, got no such claim"},
		{`{"claim":"svn","exists":true}`, true, ""},
		{`{"claim":"svn","exists":false}`, false, "term 1.2.1: svn: want no such claim, got 3"},
		{`{"claim":"list","exists":true}`, true, ""},
		{`{"claim":"list","notEquals":1}`, false, "term 1.2.1: list: want not 1, got a list of 1"},
		{`{"claim":"null","notEquals":1}`, false, "term 1.2.1: null: want not 1, got null"},
		{`{"claim":"a","notEquals":1}`, false, "term 1.2.1: a: want not 1, got an object of 3"},
		// Dots lead into objects, and stand in names.
		{`{"claim":"a.c","equals":"nested"}`, true, ""},
		{`{"claim":"a.b","equals":"flat"}`, true, ""},
		{`{"claim":"a.x.y","equals":"dotted"}`, true, ""},
		{`{"claim":"a.b2.c","equals":7}`, true, ""},
		{`{"claim":"a.b.c","exists":true}`, false, "term 1.2.1: a.b.c: want the claim, got no such claim"},
		{`{"claim":"svn.x","exists":true}`, false, "term 1.2.1: svn.x: want the claim, got no such claim"},
		{`{"claim":"twice.x","equals":1}`, false, "term 1.2.1: twice.x: want 1, got a name that fits several claims"},
		{`{"claim":"twice.x","exists":false}`, false, "term 1.2.1: twice.x: want no such claim, got a name that fits several claims"},
		{`{"claim":"x-ms-isolation-tee.x-ms-compliance-status","equals":"azure-compliant-cvm"}`, true, ""},
		{`{"claim":"x-ms-isolation-tee.x-ms-runtime.vm-configuration.secure-boot","equals":true}`, true, ""},
		// Groups.
		{`{"anyOf":[{"claim":"svn","equals":1},{"claim":"svn","equals":3}]}`, true, ""},
		{`{"anyOf":[{"claim":"svn","equals":1},{"claim":"svn","equals":2}]}`, false, "term 1.2.1.1: svn: want 1, got 3"},
		{`{"allOf":[{"claim":"svn","equals":3},{"anyOf":[{"claim":"text","equals":"4"},{"allOf":[{"claim":"text","equals":"3"},{"claim":"secureboot","equals":true}]}]}]}`, true, ""},
		{`{"claim":"svn","equals":3},{"claim":"text","equals":"4"}`, false, `term 1.2.2: text: want "4", got "3"`},
	} {
		p := parse(t, one(c.in))
		ok, n := p.Evaluate(claims(t, token), issuer)
		why := ""
		if l, refused := n.FirstRefusal(); refused {
			why = l.String()
		}
		if ok != c.want || why != c.why || (n.Result == term.True) != ok {
			t.Errorf("%s\n got %v, %s\nwant %v, %s\n%v", c.in, ok, why, c.want, c.why, n)
		}
		if full := p.Explain(claims(t, token), issuer); (full.Result == term.True) != ok {
			t.Errorf("%s: explained otherwise:\n%v", c.in, full)
		}
	}
}

func TestNumbersAreExact(t *testing.T) {
	for _, c := range []struct {
		claim any
		in    string
		want  bool
	}{
		{uint64(1<<64 - 1), `"equals":18446744073709551615`, true},
		{uint64(1<<64 - 1), `"greater":18446744073709551614`, true},
		{uint64(1<<64 - 1), `"less":18446744073709551616.5`, true},
		{int64(-1 << 63), `"equals":-9223372036854775808`, true},
		{int64(-5), `"less":-4`, true}, {int64(-5), `"less":-6`, false}, {int64(-1), `"less":0`, true}, {0, `"greater":-1`, true},
		{json.Number("9007199254740993"), `"equals":9007199254740992`, false},
		{json.Number("9007199254740993"), `"equals":9007199254740993`, true},
		{json.Number("1e400"), `"notEquals":1`, false}, {json.Number("123456789012345678901"), `"greater":1`, false},
		{3.0, `"equals":3`, true}, {0.1, `"less":0.2`, true}, {1e300, `"greater":1`, true}, {int32(7), `"equals":7`, true}, {uint32(7), `"equals":7`, true},
		{1e-320, `"greater":0`, true}, {math.Copysign(0, -1), `"equals":0`, true}, {float32(1), `"equals":1`, false},
	} {
		p := parse(t, one(`{"claim":"n",`+c.in+`}`))
		if ok, _ := p.Evaluate(map[string]any{"n": c.claim}, issuer); ok != c.want {
			t.Errorf("%v %s: got %v", c.claim, c.in, ok)
		}
	}
}

func TestAuthorities(t *testing.T) {
	const is3 = `"allOf":[{"claim":"svn","equals":3}]`
	two := parse(t, `{"version":"1.0.0","anyOf":[{"authority":"https://a.example/",`+is3+`},{"authority":"b.example","anyOf":[{"claim":"svn","equals":4}]}]}`)
	for _, c := range []struct {
		authority string
		svn       int
		want      bool
		why       string
	}{
		{"https://a.example", 3, true, ""}, {"https://a.example/", 3, true, ""},
		{"https://a.example", 4, false, "term 1.2.1: svn: want 3, got 4"},
		{"b.example", 4, true, ""}, {"b.example", 3, false, "term 2.2.1: svn: want 4, got 3"},
		{"https://a.example//", 3, false, "term 1.1: iss: want https://a.example, got https://a.example/"},
		{"https://A.example", 3, false, "term 1.1: iss: want https://a.example, got https://A.example"},
		{"http://a.example", 3, false, "term 1.1: iss: want https://a.example, got http://a.example"},
		{"https://a.example.evil", 3, false, "term 1.1: iss: want https://a.example, got https://a.example.evil"},
		{"", 3, false, "term 1.1: iss: want https://a.example, got none"}, {"/", 3, false, "term 1.1: iss: want https://a.example, got none"},
	} {
		ok, n := two.Evaluate(map[string]any{"svn": c.svn}, c.authority)
		l, _ := n.FirstRefusal()
		if ok != c.want || !c.want && l.String() != c.why {
			t.Errorf("%q, svn %d: got %v, %v\nwant %v, %s", c.authority, c.svn, ok, l, c.want, c.why)
		}
	}
	all := parse(t, `{"version":"1.0.0","allOf":[{"authority":"https://a.example",`+is3+`}]}`)
	if ok, _ := all.Evaluate(map[string]any{"svn": 3}, "https://a.example"); !ok {
		t.Error("allOf of one authority refuses")
	}
	never := parse(t, `{"version":"1.0.0","allOf":[{"authority":"https://a.example",`+is3+`},{"authority":"https://b.example",`+is3+`}]}`)
	if ok, _ := never.Evaluate(map[string]any{"svn": 3}, "https://a.example"); ok {
		t.Error("one token speaks for two authorities")
	}
}

func TestZeroValuesRefuse(t *testing.T) {
	for name, p := range map[string]*releasepolicy.Policy{"nil": nil, "zero": {}} {
		ok, n := p.Evaluate(claims(t, token), issuer)
		if ok || n.Result != term.False || p.Explain(nil, "").Result != term.False || p.String() != "" || p.Digest() != [32]byte{} {
			t.Errorf("%s: %v %v", name, ok, n)
		}
		if b, err := json.Marshal(p); err != nil || string(b) != "null" {
			t.Errorf("%s: %s %v", name, b, err)
		}
	}
	if ok, _ := parse(t, one(`{"claim":"a","exists":false}`)).Evaluate(nil, ""); ok {
		t.Error("no authority released")
	}
}

func TestRefusedPolicies(t *testing.T) {
	deep := strings.Repeat(`{"anyOf":[`, 20) + `{"claim":"a","exists":true}` + strings.Repeat("]}", 20)
	for name, c := range map[string]struct{ in, want string }{
		"empty":               {"", "/ (line 1, column 1): the JSON ends too early"},
		"not JSON":            {"{\n x", "/ (line 2, column 2): not JSON"},
		"a list":              {"[]", "want an object"},
		"trailing":            {one(`{"claim":"a","exists":true}`) + "x", "bytes after the policy"},
		"not UTF-8":           {"{\"\xff\"", "not UTF-8"},
		"too large":           {strings.Repeat(" ", releasepolicy.MaxPolicy+1), "at most 65536"},
		"no version":          {`{"anyOf":[{"authority":"a","allOf":[{"claim":"a","exists":true}]}]}`, `/version (line 1, column 68): want version "1.0.0"`},
		"version 0.2":         {strings.Replace(one(`{"claim":"a","exists":true}`), "1.0.0", "0.2", 1), `want version "1.0.0"`},
		"version number":      {`{"version":1}`, "/version (line 1, column 13): want a text"},
		"no authorities":      {`{"version":"1.0.0"}`, "/anyOf (line 1, column 20): name the authorities"},
		"empty authorities":   {`{"version":"1.0.0","anyOf":[]}`, "/anyOf (line 1, column 30): an empty list"},
		"both":                {`{"version":"1.0.0","anyOf":[{"authority":"a","allOf":[{"claim":"a","exists":true}]}],"allOf":[]}`, "/allOf"},
		"version twice":       {`{"version":"1.0.0","version":"1.0.0"}`, `member "version" twice`},
		"unknown member":      {`{"version":"1.0.0","comment":"x"}`, `/comment (line 1, column 29): unknown member "comment", want version, anyOf`},
		"anyof":               {`{"version":"1.0.0","anyof":[]}`, "it is spelled anyOf"},
		"Claim":               {one(`{"Claim":"a","exists":true}`), `/anyOf/0/allOf/0/Claim`},
		"no authority":        {`{"version":"1.0.0","anyOf":[{"allOf":[{"claim":"a","exists":true}]}]}`, "/anyOf/0/authority"},
		"empty authority":     {`{"version":"1.0.0","anyOf":[{"authority":"","allOf":[]}]}`, "want a text of 1 to 512 bytes"},
		"slash":               {`{"version":"1.0.0","anyOf":[{"authority":"/","allOf":[]}]}`, "an authority is a URL or a name"},
		"two slashes":         {`{"version":"1.0.0","anyOf":[{"authority":"https://a//","allOf":[{"claim":"a","exists":true}]}]}`, "one slash at most"},
		"spaces":              {`{"version":"1.0.0","anyOf":[{"authority":"https://a b","allOf":[]}]}`, "an authority is a URL or a name"},
		"authority alone":     {`{"version":"1.0.0","anyOf":[{"authority":"a"}]}`, "want anyOf or allOf with conditions"},
		"both in authority":   {`{"version":"1.0.0","anyOf":[{"authority":"a","anyOf":[{"claim":"a","exists":true}],"allOf":[{"claim":"a","exists":true}]}]}`, "not allowed together"},
		"empty group":         {one(`{"anyOf":[]}`), "/anyOf/0/allOf/0/anyOf (line 1, column 94): an empty list"},
		"empty condition":     {one(`{}`), "name the claim"},
		"claim alone":         {one(`{"claim":"a"}`), "want a comparison"},
		"comparison alone":    {one(`{"equals":1}`), "name the claim"},
		"two comparisons":     {one(`{"claim":"a","less":3,"greater":1}`), "two comparisons in one condition"},
		"claim and group":     {one(`{"claim":"a","equals":1,"anyOf":[{"claim":"a","exists":true}]}`), "a claim beside anyOf or allOf"},
		"unknown operator":    {one(`{"claim":"a","like":"x"}`), `unknown member "like"`},
		"authority inside":    {one(`{"authority":"a","allOf":[{"claim":"a","exists":true}]}`), `unknown member "authority"`},
		"object value":        {one(`{"claim":"a","equals":{}}`), "want a text, a number, true or false"},
		"list value":          {one(`{"claim":"a","equals":[1]}`), "want a text, a number, true or false"},
		"null value":          {one(`{"claim":"a","equals":null}`), "want a text, a number, true or false"},
		"exists as text":      {one(`{"claim":"a","exists":"true"}`), "exists wants true or false, without quotes"},
		"ordered text":        {one(`{"claim":"a","greater":"1"}`), "greater compares numbers"},
		"ordered boolean":     {one(`{"claim":"a","lessOrEquals":true}`), "lessOrEquals compares numbers"},
		"large integer":       {one(`{"claim":"a","equals":123456789012345678901}`), "does not fit into 64 bits"},
		"large float":         {one(`{"claim":"a","equals":1e999}`), "is too large"},
		"empty claim":         {one(`{"claim":"","exists":true}`), "want a text of 1 to 256 bytes"},
		"long claim":          {one(`{"claim":"` + strings.Repeat("a", 300) + `","exists":true}`), "want a text of 1 to 256 bytes"},
		"many dots":           {one(`{"claim":"` + strings.Repeat("a.", 20) + `a","exists":true}`), "more than 16 dots"},
		"long value":          {one(`{"claim":"a","equals":"` + strings.Repeat("a", 5000) + `"}`), "a text of 5000 bytes"},
		"deep":                {one(deep), "nested deeper than 16"},
		"many terms":          {one(strings.Repeat(`{"claim":"a","exists":true},`, 1100) + `{"claim":"a","exists":true}`), "more than 1024 terms"},
		"condition is a text": {one(`"a"`), "want an object"},
		"group is an object":  {one(`{"anyOf":{}}`), "want a list"},
		"claim twice":         {one(`{"claim":"a","claim":"b","exists":true}`), `member "claim" twice`},
		"cut":                 {`{"version":"1.0.0","anyOf":[{"authority":"a"`, "ends too early"},
		"second line":         {"{\"version\":\"1.0.0\",\n  \"anyOff\":[]}", "/anyOff (line 2, column 11)"},
	} {
		p, err := releasepolicy.Parse([]byte(c.in))
		if p != nil || !errors.Is(err, releasepolicy.ErrPolicy) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
	}
}

func TestCanonicalForm(t *testing.T) {
	a := parse(t, ` { "anyOf" : [ { "allOf" : [ { "equals" : 3.0 , "claim" : "s/n~" } ], "authority" : "https://a.example/" } ] , "version" : "1.0.0" } `)
	const want = `{"version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[{"claim":"s/n~","equals":3}]}]}`
	if a.String() != want {
		t.Errorf("got %s", a)
	}
	b := parse(t, want)
	if a.Digest() != b.Digest() || b.String() != want {
		t.Errorf("%x %x", a.Digest(), b.Digest())
	}
	// Receipts name it: it must not change.
	if got := fmt.Sprintf("%x", b.Digest()); got != "3e8d7ee50e6a0bccd60a0a6458a5a754948c228e4d7a5ec764c281faa064c325" {
		t.Errorf("digest %s", got)
	}
	if c := parse(t, strings.Replace(want, "3", "4", 1)); c.Digest() == b.Digest() {
		t.Error("two policies have one digest")
	}
	out, err := json.Marshal(b)
	if err != nil || !bytes.Equal(out, []byte(want)) {
		t.Errorf("%s, %v", out, err)
	}
}

// Microsoft's example of a confidential VM, over the claims of an Azure VM.
func TestOverClaimsOfAzureVM(t *testing.T) {
	p := parse(t, `{"version":"1.0.0","allOf":[{"authority":"`+issuer+`/","allOf":[
		{"claim":"x-ms-isolation-tee.x-ms-attestation-type","equals":"sevsnpvm"},
		{"claim":"x-ms-isolation-tee.x-ms-compliance-status","equals":"azure-compliant-cvm"},
		{"claim":"x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable","equals":false},
		{"claim":"x-ms-azurevm-vmid","equals":"B958DC88"}]}]}`)
	tree := tee.Claims{TEE: tee.AzureSNP, Vendor: map[string]any{"vm_configuration": map[string]any{"vm_id": "B958DC88"}, "compliance_status": "azure-compliant-cvm"}}.Tree()
	if ok, n := p.Evaluate(azurepolicy.TokenClaims(tree), issuer); !ok {
		t.Error(n)
	}
	tree["debug"] = true
	ok, n := p.Evaluate(azurepolicy.TokenClaims(tree), issuer)
	if l, _ := n.FirstRefusal(); ok || l.String() != "term 1.2.3: x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable: want false, got true" {
		t.Errorf("%v %v", ok, l)
	}
}

func Example() {
	policy, err := releasepolicy.Parse([]byte(`{
		"version": "1.0.0",
		"anyOf": [{
			"authority": "https://attest.example",
			"allOf": [
				{"claim": "x-ms-sgx-mrsigner", "equals": "83d719e7…"},
				{"claim": "x-ms-sgx-svn", "greaterOrEquals": 2}
			]
		}]
	}`))
	if err != nil {
		panic(err)
	}
	claims := map[string]any{"x-ms-sgx-mrsigner": "83d719e7…", "x-ms-sgx-svn": uint64(1)} // of a verified token
	ok, why := policy.Evaluate(claims, "https://attest.example")
	first, _ := why.FirstRefusal()
	fmt.Println(ok, first)

	claims["x-ms-sgx-svn"] = uint64(2)
	ok, _ = policy.Evaluate(claims, "https://attest.example")
	fmt.Println(ok)
	// Output:
	// false term 1.2.2: x-ms-sgx-svn: want >= 2, got 1
	// true
}
