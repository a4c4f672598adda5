package azurepolicy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/google/go-cmp/cmp"
)

func TestAuthorization(t *testing.T) {
	sgx := service("x-ms-sgx-is-debuggable", false, "x-ms-sgx-product-id", 4, "x-ms-sgx-svn", int64(3), "x-ms-sgx-mrsigner", "aa")
	custom := claims("", "role", "admin", "count", 7)
	all := append(sgx, custom...)
	for _, c := range []struct {
		rules string
		want  bool
		blame string // the first term that refuses
	}{
		{`=> permit();`, true, ""},
		{``, false, "term 1.1: a rule that permits: want a rule with permit(), got none"},
		{`=> add(type="a", value=1);`, false, "term 1.2: a rule that permits: want a rule with permit(), got none"},
		{`=> deny();`, false, "term 1.1: => deny(): want no match, got every condition holds"},
		{`=> permit(); [type=="role"] => deny();`, false, `term 1.2: [type=="role"] => deny(): want no match, got every condition holds`},
		{`[type=="role", value=="guest"] => deny(); => permit();`, true, ""},
		// The page's sample of a custom policy.
		{`[type=="x-ms-sgx-is-debuggable", value==false] && [type=="x-ms-sgx-product-id", value==4] && [type=="x-ms-sgx-svn", value>=0] && [type=="x-ms-sgx-mrsigner", value=="aa"] => permit();`, true, ""},
		{`[type=="x-ms-sgx-is-debuggable", value==true] => permit();`, false, "term 1.1.1: x-ms-sgx-is-debuggable: want true, got false"},
		{`[type=="x-ms-sgx-svn", value>=4] => permit();`, false, "term 1.1.1: x-ms-sgx-svn: want >= 4, got 3"},
		{`[type=="x-ms-sgx-svn", value>2, value<=3] => permit();`, true, ""},
		{`[type=="x-ms-sgx-svn", value<3] => permit();`, false, "term 1.1.1: x-ms-sgx-svn: want < 3, got 3"},
		{`[type=="x-ms-sgx-svn", value!=3] => permit();`, false, "term 1.1.1: x-ms-sgx-svn: want != 3, got 3"},
		{`[type=="x-ms-sgx-mrsigner", value=="AA"] => permit();`, false, `term 1.1.1: x-ms-sgx-mrsigner: want "AA", got "aa"`},
		{`[type=="missing"] => permit();`, false, "term 1.1.1: missing: want the claim, got no such claim"},
		{`[type=="x-ms-sgx-svn", value=="3"] => permit();`, false, `term 1.1.1: x-ms-sgx-svn: want "3", got 3`}, // a text is no integer
		{`[type=="x-ms-sgx-svn", valueType=="Integer"] => permit();`, true, ""},
		{`[type=="x-ms-sgx-svn", valueType=="String"] => permit();`, false, "term 1.1.1: x-ms-sgx-svn: want the claim, got 3"},
		{`[value=="admin"] => permit();`, true, ""},
		{`[value=="root"] => permit();`, false, `term 1.1.1: [value=="root"]: want "root", got no claim that fits`},
		// What the attester says of itself is not what the service found.
		{`[type=="role", issuer=="AttestationService"] => permit();`, false, "term 1.1.1: role: want the claim, got only claims issued by CustomClaim"},
		{`[type=="role", issuer=="CustomClaim"] => permit();`, true, ""},
		{`[type=="role", issuer!="CustomClaim"] => permit();`, false, "term 1.1.1: role: want the claim, got only claims issued by CustomClaim"},
		// Two rules, either will do; only then is one of them not to blame.
		{`[type=="role", value=="x"] => permit(); [type=="count", value==7] => permit();`, true, ""},
		{`[type=="role", value=="x"] => permit(); [type=="count", value==8] => permit();`, false, `term 1.1.1: role: want "x", got "admin"`},
		// Absence (version 1.2).
		{`![type=="revoked"] => permit();`, true, ""},
		{`![type=="role", value=="admin"] => permit();`, false, `term 1.1.1: role: want no claim with "admin", got "admin"`},
		{`![type=="role"] => permit();`, false, `term 1.1.1: role: want no such claim, got "admin"`},
		// add is seen by later rules, and only by those.
		{`=> add(type="step", value=1); [type=="step", issuer=="AttestationPolicy"] => permit();`, true, ""},
		{`[type=="step"] => permit(); => add(type="step", value=1);`, false, "term 1.1.1: step: want the claim, got no such claim"},
		{`=> add(type="a", value=1); c:[type=="a"] => add(type="b", value=c.value); [type=="b", value==1] => permit();`, true, ""},
		{`[type=~"^x-ms-sgx-mr", value=~"^a+$"] => permit();`, true, ""},
		{`[type=="role", value!~"^adm"] => permit();`, false, `term 1.1.1: role: want !~ "^adm", got "admin"`},
	} {
		p := parse(t, authorize(c.rules))
		out, err := p.Evaluate(all, azurepolicy.Options{})
		leaf, _ := out.Trace.FirstRefusal()
		got := ""
		if leaf.Result != term.NotReached {
			got = leaf.String()
		}
		if err != nil || out.Permitted != c.want || got != c.blame {
			t.Errorf("%s\n got %v, %v, %s\nwant %v, %s\n%v", c.rules, out.Permitted, err, got, c.want, c.blame, out.Trace)
		}
	}
}

// A comparison that makes no sense refuses, whether it would permit or deny.
func TestErrorsRefuse(t *testing.T) {
	in := service("svn", "3", "json", `{"a":[1,{"b":2}],"f":1.5}`, "n", 1, "many", "a", "many", "b")
	in = append(in, azurepolicy.Claim{Type: "pcrs", Value: `{"PCRs":[]}`, Issuer: azurepolicy.IssuerService, ReadOnly: true})
	for _, c := range []struct{ rules, want string }{
		{`[type=="svn", value<5] => deny(); => permit();`, `< compares integers, and "svn" is of type String`},
		{`[type=="n", value=~"1"] => deny(); => permit();`, `value of "n" is no text`},
		{`c:[type=="svn"] => add(type="x", value=NegateBool(c.value)); => permit();`, "NegateBool: the argument is of type String, want Boolean"},
		{`c:[type=="n"] => add(type="x", value=AppendString(c.value, "b")); => permit();`, "AppendString: the first argument is of type Integer, want String"},
		{`c:[type=="many"] => add(type="x", value=AppendString("b", c.value)); => permit();`, "AppendString: the second argument has 2 different values, and one is wanted"},
		{`c:[type=="many"] => add(type="x", value=ContainsOnlyValue(c.value, c.value)); => permit();`, "2 different values"},
		{`c:[type=="svn"] => add(type="x", value=JmesPath("nope", c.value)); => permit();`, "JMESPath, at byte 0"},
		{`=> add(type="x", value=JmesPath("{", "a")); => permit();`, "JmesPath: not JSON"},
		{`c:[type=="n"] => add(type="x", value=JmesPath(c.value, "a")); => permit();`, "the first argument is of type Integer"},
		{`=> add(type="x", value=JmesPath("{}", "length(a)")); => permit();`, "length: want a string, an array or an object, got null"},
		{`c:[type=="json"] => add(type="x", value=JsonToClaimValue(c.value)); => permit();`, "a JSON object has no claim value"},
		{`c:[type=="json"] => add(type="x", value=JsonToClaimValue(JmesPath(c.value, "a"))); => permit();`, "a JSON object has no claim value"},
		{`c:[type=="json"] => add(type="x", value=JsonToClaimValue(JmesPath(c.value, "f"))); => permit();`, "not a 64-bit integer"},
		{`=> add(type="x", value=JsonToClaimValue("[[1]]")); => permit();`, "an array in an array"},
		{`=> add(type="x", value=JsonToClaimValue("abc")); => permit();`, "not JSON"},
		{`=> add(type="x", value=1, valueType="String"); => permit();`, "the value is of type Integer, and valueType says String"},
		{`c:[type=="n"] => add(type=c.value, value=1); => permit();`, "the type is of type Integer"},
		{`=> add(type=AppendString("", ""), value=1); => permit();`, "a type is a text of 1"},
	} {
		out, err := parse(t, authorize(c.rules)).Evaluate(in, azurepolicy.Options{})
		if !errors.Is(err, azurepolicy.ErrEvaluation) || !strings.Contains(err.Error(), c.want) || out.Permitted || out.Trace.Result != term.Error {
			t.Errorf("%s\n got %v, %v, %v\nwant %s", c.rules, out.Permitted, err, out.Trace.Result, c.want)
		}
	}
	for _, c := range []struct{ rules, want string }{
		{`c:[type=="pcrs"] => issue(claim=c);`, `"pcrs" is read-only`},
		{`c:[type=="pcrs"] => issue(type="x", value=JmesPath(c.value, "PCRs"));`, `"x" is read-only`},
		{`c:[type=="pcrs"] => issue(type="x", value=AppendString("a", c.value));`, `"x" is read-only`},
		{`=> issueproperty(type="omit_x5c", value="yes");`, `the property "omit_x5c" is of type Boolean, got String`},
		{`=> add(type="t", value="exp"); c:[type=="t"] => issue(type=c.value, value=1);`, `"exp" is a claim of the token itself`},
	} {
		out, err := parse(t, issuing(c.rules)).Evaluate(in, azurepolicy.Options{})
		if !errors.Is(err, azurepolicy.ErrEvaluation) || !strings.Contains(err.Error(), c.want) || out.Permitted || out.Issued != nil {
			t.Errorf("%s\n got %v, %v\nwant %s", c.rules, out.Permitted, err, c.want)
		}
	}
	// What is read-only can be tested.
	out, err := parse(t, issuing(`c:[type=="pcrs"] => issue(type="none", value=JsonToClaimValue("0")); c:[type=="pcrs"] => issue(type="only", value=ContainsOnlyValue(c.value, "x"));`)).Evaluate(in, azurepolicy.Options{})
	if err != nil || !cmp.Equal(out.Issued, map[string]any{"none": int64(0), "only": false}) {
		t.Errorf("got %v, %v", out.Issued, err)
	}
}

func TestIssuance(t *testing.T) {
	in := append(service("OSName", "linux", "OSName", "plan9", "num", 5, "flag", true), claims("CustomClaim", "OSName", "linux", "OSName", "beos")...)
	for _, c := range []struct {
		rules string
		want  map[string]any
	}{
		{``, map[string]any{}},
		{`=> issue(type="SecurityLevelValue", value=100);`, map[string]any{"SecurityLevelValue": int64(100)}},
		{`=> add(type="hidden", value=1);`, map[string]any{}},
		{`c:[type=="num"] => issue(type="n", value=c.value);`, map[string]any{"n": int64(5)}},
		{`c:[type=="OSName"] => issue(type="os", value=c.value);`, map[string]any{"os": []any{"linux", "plan9", "beos"}}}, // several claims: an array, equal ones once
		{`[type=="OSName"] => issue(type="known", value=true);`, map[string]any{"known": true}},                           // a constant is issued once
		{`c:[type=="flag"] => issue(claim=c);`, map[string]any{"flag": true}},
		{`c:[type=="OSName"] => issue(type=c.type, value=c.issuer);`, map[string]any{"OSName": []any{"AttestationService", "CustomClaim"}}},
		{`c:[type=="num"] && d:[type=="flag"] => issue(type="both", value=d.valueType);`, map[string]any{"both": "Boolean"}},
		// The page's example of claims that are compared with each other.
		{`F1:[type=="OSName", issuer=="CustomClaim"] && C2:[type=="OSName", issuer=="AttestationService", value==F1.value] => issue(claim=C2);`, map[string]any{"OSName": "linux"}},
		{`F1:[type=="OSName", issuer=="CustomClaim"] && [type=="OSName", issuer=="AttestationService", value==F1.value] => issue(type="agreed", value=F1.value);`, map[string]any{"agreed": "linux"}},
		{`F1:[type=="OSName", issuer=="CustomClaim"] && ![type=="OSName", issuer=="AttestationService", value==F1.value] => issue(type="alone", value=F1.value);`, map[string]any{"alone": "beos"}},
		{`a:[type=="OSName", issuer=="AttestationService"] && b:[type=="OSName", issuer=="CustomClaim", value!=a.value] => issue(type=a.value, value=b.value);`, map[string]any{"linux": "beos", "plan9": []any{"linux", "beos"}}},
		// What is issued is incoming for later rules.
		{`=> issue(type="a", value=1); [type=="a", issuer=="AttestationPolicy"] => issue(type="b", value=2);`, map[string]any{"a": int64(1), "b": int64(2)}},
		{`![type=="a"] => issue(type="a", value=false); ![type=="a"] => issue(type="a", value=true);`, map[string]any{"a": false}},
	} {
		out, err := parse(t, issuing(c.rules)).Evaluate(in, azurepolicy.Options{})
		if d := cmp.Diff(c.want, out.Issued); err != nil || !out.Permitted || d != "" {
			t.Errorf("%s: %v %v\n%s", c.rules, out.Permitted, err, d)
		}
	}
}

func TestProperties(t *testing.T) {
	const text = `version= 1.1;
configurationrules { => issueproperty(type="required_pcr_mask", value=15); [type=="tpmVersion", value==2] => issueproperty(type="require_valid_aik_cert", value=false); };
authorizationrules { [type=="required_pcr_mask", value==15] => permit(); };
issuancerules { => issueproperty(type="report_validity_in_minutes", value=1440); };`
	p := parse(t, text)
	out, err := p.Evaluate(service("tpmVersion", 2), azurepolicy.Options{})
	want := map[string]any{"required_pcr_mask": int64(15), "require_valid_aik_cert": false, "report_validity_in_minutes": int64(1440)}
	if d := cmp.Diff(want, out.Properties); err != nil || !out.Permitted || d != "" || len(out.Issued) != 0 {
		t.Errorf("%v %v %v\n%s", out.Permitted, out.Issued, err, d)
	}
	if d := cmp.Diff(map[string]any{"required_pcr_mask": int64(15)}, p.Configuration()); d != "" {
		t.Error(d)
	}
	for name, known := range map[string]bool{"omit_x5c": true, "x-ms-sgx-tcbidentifier": true, "omit_x5cc": false, "": false} {
		if azurepolicy.KnownProperty(name) != known {
			t.Errorf("KnownProperty(%q) is not %v", name, known)
		}
	}
}

func TestZeroValuesRefuse(t *testing.T) {
	for name, p := range map[string]*azurepolicy.Policy{"nil": nil, "zero": {}} {
		out, err := p.Evaluate(nil, azurepolicy.Options{AllowDebug: true, AllowSimulated: true})
		if out.Permitted || err != nil || out.Trace.Result != term.False {
			t.Errorf("%s: got %+v, %v", name, out, err)
		}
		if p.String() != "" || p.Version() != "" || p.Extensions() != nil || len(p.Configuration()) != 0 {
			t.Errorf("%s says something", name)
		}
	}
}

// Debug and simulated evidence pass only where somebody said so.
func TestGuards(t *testing.T) {
	simulated := service(azurepolicy.ClaimSimulated, true, azurepolicy.ClaimDebug, false)
	debug := service(azurepolicy.ClaimSimulated, false, azurepolicy.ClaimDebug, true, "x-ms-sgx-is-debuggable", true)
	attesterSaysSo := claims("CustomClaim", azurepolicy.ClaimDebug, true, azurepolicy.ClaimSimulated, true)
	for _, c := range []struct {
		name  string
		in    []azurepolicy.Claim
		rules string
		o     azurepolicy.Options
		want  bool
	}{
		{"simulated", simulated, "=> permit();", azurepolicy.Options{AllowDebug: true}, false},
		{"simulated, allowed", simulated, "=> permit();", azurepolicy.Options{AllowSimulated: true}, true},
		{"simulated, named", simulated, `[type=="x-cloister-simulated"] => permit();`, azurepolicy.Options{}, true},
		{"debug", debug, "=> permit();", azurepolicy.Options{AllowSimulated: true}, false},
		{"debug, allowed", debug, "=> permit();", azurepolicy.Options{AllowDebug: true}, true},
		{"debug, named", debug, `[type=="x-ms-sgx-is-debuggable", value==true] => permit();`, azurepolicy.Options{}, true},
		{"debug, another claim", debug, `[type=="x-cloister-simulated", value==false] => permit();`, azurepolicy.Options{}, false},
		{"not the service's word", attesterSaysSo, "=> permit();", azurepolicy.Options{}, true},
	} {
		out, err := parse(t, authorize(c.rules)).Evaluate(c.in, c.o)
		if err != nil || out.Permitted != c.want {
			t.Errorf("%s: got %v, %v\n%v", c.name, out.Permitted, err, out.Trace)
		}
	}
	out, _ := parse(t, authorize("=> permit();")).Evaluate(debug, azurepolicy.Options{})
	if l, _ := out.Trace.FirstRefusal(); l.String() != "term 1.1: x-cloister-debug: want false, got true" {
		t.Errorf("got %v", l)
	}
}

func TestBoundsOfEvaluation(t *testing.T) {
	in := func(n int) []azurepolicy.Claim {
		var out []azurepolicy.Claim
		for i := range n {
			out = append(out, service("t", i)...)
		}
		return out
	}
	for name, c := range map[string]struct {
		in    []azurepolicy.Claim
		rules string
		want  string
	}{
		"claims":       {in(1025), "=> permit();", "1025 claims, at most 1024"},
		"value":        {service("t", strings.Repeat("x", azurepolicy.MaxValue+1)), "=> permit();", "a value of at most"},
		"type":         {service(strings.Repeat("x", 1000), 1), "=> permit();", "a type of 1 to 512 bytes"},
		"no type":      {service("", 1), "=> permit();", "a type of 1 to 512 bytes"},
		"value's type": {service("t", 1.5), "=> permit();", "a float64 is neither"},
		"range":        {service("t", uint64(1<<63)), "=> permit();", "beyond 64-bit"},
		"issuer":       {claims("me", "t", 1), "=> permit();", "unknown issuer"},
		"tuples":       {in(100), `a:[type=="t"] && b:[type=="t", value!=a.value] => permit();`, "combinations of claims fit"},
		"steps":        {in(1000), `a:[type=="t"] && b:[type=="t", value!=a.value] && c:[type=="t", value==b.value] => permit();`, "combinations of claims fit"},
		"picks":        {in(100), `a:[type=="t"] && b:[type=="t"] => add(type=AppendString("a","b"), value=a.value); a:[type=="t"] && b:[type=="t"] => add(type=a.issuer, value=b.value);`, "combinations of claims fit"},
		"growth": {service("t", strings.Repeat("x", 600_000)), `c:[type=="t"] => add(type="u", value=AppendString(c.value, c.value)); => permit();`,
			"values that are too large"},
		"work": {service("t", "x", "u", strings.Repeat("x", 4096)), strings.Repeat(`[type=="u", value=~"(x+x+){90}y"] => permit();`, 40), "costs too much"},
	} {
		out, err := parse(t, authorize(c.rules)).Evaluate(c.in, azurepolicy.Options{})
		if !errors.Is(err, azurepolicy.ErrEvaluation) || !strings.Contains(err.Error(), c.want) || out.Permitted {
			t.Errorf("%s: got %v, %v", name, out.Permitted, err)
		}
	}
}

// A policy serves many requests at once.
func TestConcurrentEvaluation(t *testing.T) {
	p := parse(t, tpmSample)
	in := service("events", bootEvents)
	want, err := p.Evaluate(in, azurepolicy.Options{Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := p.Evaluate(in, azurepolicy.Options{Explain: true})
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
	wg.Wait()
}

func TestPermittedIsTracedOnRequest(t *testing.T) {
	p := parse(t, authorize(`[type=="a", value=="x"] => permit(); [type=="a"] => permit();`))
	in := service("a", "y")
	if out, _ := p.Evaluate(in, azurepolicy.Options{}); out.Trace.Text != "" {
		t.Errorf("got %v", out.Trace)
	}
	out, err := p.Evaluate(in, azurepolicy.Options{Explain: true})
	const want = `true  attestation policy, version 1.2
  true  authorizationrules (2:1)
    not_reached  [type=="a", value=="x"] => permit() (4:1)
      false  [type=="a", value=="x"] (4:1): want "x", got "y"
    true  [type=="a"] => permit() (4:38)
      true  [type=="a"] (4:38)`
	if d := cmp.Diff(want, out.Trace.String()); err != nil || d != "" {
		t.Error(err, d)
	}
}

func Example() {
	policy, err := azurepolicy.Parse(`version= 1.0;
authorizationrules {
  [type=="x-ms-sgx-is-debuggable", value==false]
    && [type=="x-ms-sgx-svn", value>=2] => permit();
};
issuancerules {
  c:[type=="x-ms-sgx-mrsigner"] => issue(type="signer", value=c.value);
};`)
	if err != nil {
		panic(err)
	}
	tree := map[string]any{ // of verified claims: tee.Claims.Tree
		"tee": "sgx", "simulated": false, "debug": false,
		"sgx": map[string]any{"mrsigner": "83d7…", "svn": uint64(1)},
	}
	out, err := policy.Evaluate(azurepolicy.IncomingClaims(tree), azurepolicy.Options{})
	why, _ := out.Trace.FirstRefusal()
	fmt.Println(out.Permitted, err, why)

	tree["sgx"].(map[string]any)["svn"] = uint64(2)
	out, err = policy.Evaluate(azurepolicy.IncomingClaims(tree), azurepolicy.Options{})
	fmt.Println(out.Permitted, err, out.Issued)
	// Output:
	// false <nil> term 1.1.2: x-ms-sgx-svn: want >= 2, got 1
	// true <nil> map[signer:83d7…]
}
