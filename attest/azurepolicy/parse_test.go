package azurepolicy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/google/go-cmp/cmp"
)

func TestCanonicalForm(t *testing.T) {
	const in = `Version = 1.2 ; // the samples write it in either case
		Issuancerules { c : [ type=="a" , issuer="AttestationService" ] => issue ( claim = c ) ; }
		authorizationrules{[type=="n",value>=-0x10]&&![type=="m",value!=true]=>permit();=>deny();}
		configurationrules{=>issueproperty(type="required_pcr_mask",value=0xFFFFFF,valueType="Integer");};`
	const want = "version= 1.2;\n" +
		"configurationrules\n{\n\t=> issueproperty(type=\"required_pcr_mask\", value=16777215, valueType=\"Integer\");\n};\n" +
		"authorizationrules\n{\n\t[type==\"n\", value>=-16] && ![type==\"m\", value!=true] => permit();\n\t=> deny();\n};\n" +
		"issuancerules\n{\n\tc:[type==\"a\", issuer==\"AttestationService\"] => issue(claim=c);\n};\n"
	p := parse(t, in)
	if d := cmp.Diff(want, p.String()); d != "" {
		t.Error(d)
	}
	if p.Version() != azurepolicy.V12 {
		t.Errorf("version %s", p.Version())
	}
	if again := parse(t, p.String()).String(); again != want {
		t.Errorf("printed again: %s", again)
	}
}

// Every problem names its place, and one problem does not hide the others.
func TestRefusedPolicies(t *testing.T) {
	wrap := func(rules string) string { return "version= 1.2;\nauthorizationrules {\n" + rules + "\n};" }
	for name, c := range map[string]struct{ in, want string }{
		"empty":                    {"", `1:1: a policy begins with its version, got the end of the text`},
		"no version":               {"authorizationrules { => permit(); };", `1:1: a policy begins with its version`},
		"version 1.3":              {"version= 1.3; authorizationrules { => permit(); };", "1:10: want version 1.0, 1.1 or 1.2"},
		"version 1":                {"version= 1; authorizationrules { => permit(); };", "1:10: want version 1.0, 1.1 or 1.2"},
		"no authorization":         {"version= 1.0; issuancerules { };", "1:33: authorizationrules are missing"},
		"unknown section":          {"version= 1.0; rules { => permit(); }; authorizationrules { };", `1:15: want configurationrules, authorizationrules or issuancerules, got "rules"`},
		"section twice":            {"version= 1.0; authorizationrules { }; authorizationrules { };", "1:39: authorizationrules twice"},
		"configuration in 1.0":     {"version= 1.0; configurationrules { }; authorizationrules { };", "1:15: configurationrules came with version 1.1"},
		"section not closed":       {"version= 1.0; authorizationrules { => permit();", `1:48: want "}" at the end of authorizationrules`},
		"section not opened":       {"version= 1.0; authorizationrules => permit();", `1:34: want "{" after authorizationrules, got "=>"`},
		"negation in 1.1":          {`version= 1.1; authorizationrules { ![type=="a"] => permit(); };`, "1:36: ! came with version 1.2"},
		"function in 1.0":          {`version= 1.0; authorizationrules { => add(type="a", value=NegateBool(true)); };`, "1:59: functions came with version 1.2"},
		"pattern in 1.1":           {`version= 1.1; authorizationrules { [type=~"a"] => permit(); };`, "1:41: =~ needs version 1.2"},
		"no semicolon":             {wrap(`=> permit()`), `4:1: want ";" at the end of the rule, got "}"`},
		"no arrow":                 {wrap(`[type=="a"] permit();`), `3:13: want "&&" or "=>" after a condition, got "permit"`},
		"unknown action":           {wrap(`=> allow();`), `3:4: want permit, deny, add, issue or issueproperty, got "allow"`},
		"permit takes nothing":     {wrap(`=> permit(true);`), `3:11: want ")" after permit(, which takes no claim, got "true"`},
		"issue in authorization":   {wrap(`=> issue(type="a", value=1);`), "3:4: issue is not allowed in authorizationrules"},
		"property in auth":         {wrap(`=> issueproperty(type="a", value=1);`), "3:4: issueproperty is not allowed in authorizationrules"},
		"permit in issuance":       {"version= 1.0; authorizationrules { }; issuancerules { => permit(); };", "1:58: permit is not allowed in issuancerules"},
		"add in configuration":     {`version= 1.1; configurationrules { => add(type="a", value=1); }; authorizationrules { };`, "1:39: add is not allowed in configurationrules"},
		"exists":                   {wrap(`exists([type=="a"]) => permit();`), "3:1: exists is not part of the language"},
		"count":                    {wrap(`count([type=="a"]) >= 1 => permit();`), "3:1: count is not part of the language"},
		"empty condition":          {wrap(`c:[] => permit();`), "3:4: an empty condition"},
		"unknown property":         {wrap(`[kind=="a"] => permit();`), `3:2: want type, value, valueType or issuer, got "kind"`},
		"no comparison":            {wrap(`[type "a"] => permit();`), "3:7: want a comparison"},
		"ordered text":             {wrap(`[type=="a", value>"b"] => permit();`), "3:18: > compares integers"},
		"ordered type":             {wrap(`[type>=1] => permit();`), "3:6: >= compares integers"},
		"type is text":             {wrap(`[type==1] => permit();`), "3:6: type is a text"},
		"unknown issuer":           {wrap(`[type=="a", issuer=="Attestationservice"] => permit();`), `3:19: no claim has the issuer "Attestationservice"`},
		"unknown value type":       {wrap(`[type=="a", valueType=="Bool"] => permit();`), `3:22: no claim has the valueType "Bool"`},
		"name twice":               {wrap(`c:[type=="a"] && c:[type=="b"] => permit();`), "3:18: the name c twice in one rule"},
		"negated name":             {wrap(`!c:[type=="a"] => permit();`), "3:2: a negated condition binds no claim"},
		"unknown name":             {wrap(`[type=="a", value==d.value] => permit();`), `3:20: no condition before this is named "d"`},
		"own name":                 {wrap(`c:[type=="a", value==c.value] => permit();`), `3:22: no condition before this is named "c"`},
		"unknown property of name": {wrap(`c:[type=="a"] => add(type="b", value=c.values);`), `3:40: want type, value, valueType or issuer, got "values"`},
		"type without name":        {`version= 1.2; authorizationrules { }; issuancerules { => issue("PlatformAttested", value=true); };`, "1:64: want type=, value= or claim=, got a text"},
		"double equals":            {wrap(`=> add(type=="a", value=1);`), `3:12: want "=" after type, got "=="`},
		"no value":                 {wrap(`=> add(type="a");`), "3:4: add needs a type and a value"},
		"issuer assigned":          {wrap(`=> add(type="a", value=1, issuer="AttestationService");`), `3:27: want type, value, valueType or claim, got "issuer"`},
		"claim and type":           {wrap(`c:[type=="a"] => add(claim=c, type="b");`), "3:18: claim= stands alone"},
		"value twice":              {wrap(`=> add(type="a", value=1, value=2);`), "3:27: value twice"},
		"value type unknown":       {wrap(`=> add(type="a", value=1, valueType="Int");`), "3:27: want valueType String, Integer or Boolean"},
		"type of number":           {wrap(`=> add(type=1, value=1);`), "3:4: a type is a text of 1 to 512 bytes"},
		"reserved":                 {`version= 1.2; authorizationrules { }; issuancerules { => issue(type="iss", value="me"); };`, `1:58: "iss" is a claim of the token itself and cannot be issued`},
		"own prefix":               {`version= 1.2; authorizationrules { }; issuancerules { => issue(type="x-cloister-debug", value=false); };`, `1:58: "x-cloister-debug" is a claim of the token itself`},
		"unknown function":         {wrap(`=> add(type="a", value=NegateBol(true));`), "3:24: there is no function NegateBol"},
		"arguments":                {wrap(`c:[type=="s"] => add(type="a", value=ContainsOnlyValue(100));`), "3:38: ContainsOnlyValue takes 2 argument(s)"},
		"too many arguments":       {wrap(`=> add(type="a", value=NegateBool(true, true));`), "3:24: NegateBool takes 1 argument(s)"},
		"bad query":                {wrap(`c:[type=="s"] => add(type="a", value=JmesPath(c.value, "a[1:2]"));`), "3:38: JMESPath, at byte 2: slices ([a:b]) are not supported"},
		"query of number":          {wrap(`c:[type=="s"] => add(type="a", value=JmesPath(c.value, 7));`), "3:38: "},
		"nested calls":             {wrap("=> add(type=\"a\", value=" + strings.Repeat("NegateBool(", 20) + "true" + strings.Repeat(")", 20) + ");"), "calls nested deeper than 8"},
		"not a number":             {wrap(`[type=="a", value==12ab] => permit();`), `3:20: "12ab" is not a 64-bit integer`},
		"too large":                {wrap(`[type=="a", value==9223372036854775808] => permit();`), "is not a 64-bit integer"},
		"float":                    {wrap(`[type=="a", value==1.5] => permit();`), `3:21: want "," or "]" after a test, got "."`},
		"typographic quotes":       {wrap(`[type==”a”] => permit();`), "3:8: the character '”' has no meaning here"},
		"single quotes":            {wrap(`[type=='a'] => permit();`), `3:8: the character '\'' has no meaning here`},
		"escape":                   {wrap(`[type=="a\b"] => permit();`), "3:8: a backslash in this text stands before neither"},
		"open text":                {wrap("[type==\"a\n] => permit();"), "3:8: this text is not closed on its line"},
		"open text at end":         {`version= 1.2; authorizationrules { [type=="a`, "1:43: this text is not closed"},
		"control character":        {wrap("[type==\"a\x00\"] => permit();"), "3:8: this text is not closed on its line"},
		"pattern":                  {wrap(`[type=~"("] => permit();`), "3:6: not a pattern"},
		"large pattern":            {wrap(`[type=~"(a{500}){2}"] => permit();`), "3:6: the pattern is too large"},
		"long pattern":             {wrap(`[type=~"` + strings.Repeat("a", 300) + `"] => permit();`), "3:6: a pattern of 300 bytes, at most 256"},
		"many patterns":            {wrap(strings.Repeat("[type=~\"a\"] => permit();\n", 65)), "67:6: more than 64 patterns"},
		"pattern of a claim":       {wrap(`c:[type=="a"] && [type=~c.value] => permit();`), "3:23: =~ compares a text with a pattern"},
		"block comment":            {wrap(`/* no */ => permit();`), "3:1: the character '/' has no meaning here"},
		"not UTF-8":                {"version= 1.0;\xff", "1:1: the text is not UTF-8"},
		"too long":                 {strings.Repeat(" ", azurepolicy.MaxText+1), "1:1: 65537 bytes, at most 65536"},
		"many conditions":          {wrap(strings.Repeat(`[type=="a"] && `, 16) + `[type=="a"] => permit();`), "more than 16 conditions"},
		"many tests":               {wrap("[" + strings.Repeat(`type=="a",`, 16) + `type=="a"] => permit();`), "more than 16 tests"},
		"many rules":               {wrap(strings.Repeat("=> permit();\n", 257)), "more than 256 rules"},
		"trailing":                 {wrap("") + " x", "got \"x\""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := azurepolicy.Parse(c.in)
			if !errors.Is(err, azurepolicy.ErrSyntax) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAllProblemsAreListed(t *testing.T) {
	_, err := azurepolicy.Parse("version= 1.0;\nauthorizationrules {\n  [typ==\"a\"] => permit();\n  => permitt();\n};\nissuancerules {\n => issue(type=\"a\");\n};")
	e, ok := errors.AsType[*azurepolicy.SyntaxError](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, fmt.Sprintf("%d:%d", p.Line, p.Column))
	}
	if d := cmp.Diff([]string{"3:4", "4:6", "7:5"}, got); d != "" {
		t.Error(d, err)
	}
	_, err = azurepolicy.Parse("version= 1.0;\nauthorizationrules {" + strings.Repeat("=> no();\n", 100) + "};")
	if e, ok := errors.AsType[*azurepolicy.SyntaxError](err); !ok || len(e.Problems) != azurepolicy.MaxProblems {
		t.Errorf("got %v, want %d problems", err, azurepolicy.MaxProblems)
	}
}

func TestExcerpt(t *testing.T) {
	const text = "version= 1.0;\r\nauthorizationrules {\r\n\t[typ==\"a\"] => permit();\r\n};"
	_, err := azurepolicy.Parse(text)
	e, ok := errors.AsType[*azurepolicy.SyntaxError](err)
	if !ok {
		t.Fatal(err)
	}
	if got, want := e.Problems[0].Excerpt(text), " [typ==\"a\"] => permit();\n  ^"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (azurepolicy.Problem{Line: 99}).Excerpt(text); got != "" {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("x", 1000)
	if got := (azurepolicy.Problem{Line: 1, Column: 900}).Excerpt(long); len(got) > 300 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestExtensions(t *testing.T) {
	p := parse(t, authorize(`[type=="a", value=~"^x"] => permit();`))
	if d := cmp.Diff([]string{"4:18: =~"}, p.Extensions()); d != "" {
		t.Error(d)
	}
	if got := parse(t, azurepolicy.DefaultSGX).Extensions(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
