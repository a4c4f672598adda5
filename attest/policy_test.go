package attest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParsePolicyRoundTrip(t *testing.T) {
	for _, want := range []attest.Policy{fullPolicy(), attest.HardwareDefault(), attest.Development()} {
		got, err := attest.ParsePolicy(mustJSON(t, want))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", want.Name, d)
		}
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	const good = `{"version":1,"name":"p","accept":["sgx"],"tcb":["any"],"measurements":["any"]}`
	if _, err := attest.ParsePolicy([]byte(good)); err != nil {
		t.Fatal(err)
	}
	with := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	cases := []struct{ name, in, want string }{
		{"empty", ``, "not JSON"},
		{"null", `null`, "version"},
		{"zero", `{}`, "accept"},
		{"a list", `[]`, "cannot unmarshal"},
		{"truncated", good[:len(good)-1], "not JSON"},
		{"trailing value", good + `{}`, "after top-level value"},
		{"trailing text", good + `x`, "after top-level value"},
		{"unknown member", with(`"min_tcb":1`), "min_tcb"},
		{"unknown member of a rule", with(`"rules":[{"name":"r","expr":"true","when":"now"}]`), "when"},
		{"member twice", with(`"allow_debug":false,"allow_debug":true`), "twice"},
		{"member twice, escaped", with(`"allow_debug":false,"allow_\u0064ebug":true`), "twice"},
		{"wrong case", with(`"Allow_Debug":true`), "Allow_Debug"},
		{"wrong case of a known member", strings.Replace(good, `"tcb"`, `"TCB"`, 1), "TCB"},
		{"wrong type", with(`"allow_debug":"false"`), "cannot unmarshal"},
		{"too deep", with(`"rules":` + strings.Repeat("[", 17) + strings.Repeat("]", 17)), "nested deeper"},
		{"too long", with(`"rules":[]` + strings.Repeat(" ", attest.MaxPolicy)), "at most"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := attest.ParsePolicy([]byte(c.in))
			if !errors.Is(err, attest.ErrPolicy) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrPolicy with %q", err, c.want)
			}
			if d := cmp.Diff(attest.Policy{}, p); d != "" {
				t.Errorf("a policy beside an error: %s", d)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	rule := func(change func(*attest.Rule)) func(*attest.Policy) {
		return func(p *attest.Policy) { change(&p.Rules[0]) }
	}
	cases := []struct {
		name   string
		change func(*attest.Policy)
		want   string
	}{
		{"version", func(p *attest.Policy) { p.Version = 2 }, "version"},
		{"no version", func(p *attest.Policy) { p.Version = 0 }, "version"},
		{"no name", func(p *attest.Policy) { p.Name = "" }, "name"},
		{"name", func(p *attest.Policy) { p.Name = "a\nb" }, "name"},
		{"long name", func(p *attest.Policy) { p.Name = strings.Repeat("a", attest.MaxName+1) }, "name"},
		{"no TEE", func(p *attest.Policy) { p.Accept = nil }, "accept"},
		{"unknown TEE", func(p *attest.Policy) { p.Accept = append(p.Accept, "any") }, "accept[2]"},
		{"no code", func(p *attest.Policy) { p.Measurements, p.Signers = nil, nil }, "measurements or signers"},
		{"measurement", func(p *attest.Policy) { p.Measurements[1] = "zz" }, "measurements[1]"},
		{"measurement length", func(p *attest.Policy) { p.Measurements[0] = "abcd" }, "measurements[0]"},
		{"any beside others", func(p *attest.Policy) { p.Measurements[1] = attest.Any }, "measurements[1]"},
		{"Any", func(p *attest.Policy) { p.Measurements = []string{"Any"} }, "measurements[0]"},
		{"launch digest", func(p *attest.Policy) { p.LaunchDigests[0] = attest.Any }, "launch_digests[0]"},
		{"launch digest length", func(p *attest.Policy) { p.LaunchDigests[0] = strings.Repeat("00", 48) }, "launch_digests[0]"},
		{"signer", func(p *attest.Policy) { p.Signers[1].Signer = "" }, "signers[1]"},
		{"no TCB", func(p *attest.Policy) { p.TCB = nil }, "tcb"},
		{"TCB", func(p *attest.Policy) { p.TCB[1] = "uptodate" }, "tcb[1]"},
		{"empty TCB", func(p *attest.Policy) { p.TCB[1] = "" }, "tcb[1]"},
		{"any TCB beside others", func(p *attest.Policy) { p.TCB[1] = attest.Any }, "tcb[1]"},
		{"platform", func(p *attest.Policy) { p.Platforms[0] = "chip" }, "platforms[0]"},
		{"any platform", func(p *attest.Policy) { p.Platforms[0] = attest.Any }, "platforms[0]"},
		{"empty platform", func(p *attest.Policy) { p.Platforms[0] = "" }, "platforms[0]"},
		{"finding", func(p *attest.Policy) { p.RefuseFindings[0] = "No Such" }, "refuse_findings[0]"},
		{"any finding beside others", func(p *attest.Policy) { p.RefuseFindings[0] = attest.Any }, "refuse_findings[0]"},
		{"rule name", rule(func(r *attest.Rule) { r.Name = "" }), "rules[0].name"},
		{"rule without expression", rule(func(r *attest.Rule) { r.Expr = "" }), "rules[0].expr"},
		{"long rule", rule(func(r *attest.Rule) { r.Expr = strings.Repeat(" ", attest.MaxExpression) + "1" }), "rules[0].expr"},
		{"rule code", rule(func(r *attest.Rule) { r.Code = "VMPL" }), "rules[0].code"},
		{"rule hint", rule(func(r *attest.Rule) { r.Hint = strings.Repeat("a", 4*attest.MaxName+1) }), "rules[0].hint"},
		{"many rules", func(p *attest.Policy) { p.Rules = slices.Repeat(p.Rules, attest.MaxRules) }, "rules: 128"},
		{"many values", func(p *attest.Policy) { p.Platforms = slices.Repeat([]string{"ab"}, attest.MaxPolicyItems+1) }, "platforms: 4097"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := fullPolicy()
			c.change(&p)
			for what, err := range map[string]error{"Validate": p.Validate(), "Compile": second(attest.Compile(p)), "ParsePolicy": second(attest.ParsePolicy(mustJSON(t, p)))} {
				if !errors.Is(err, attest.ErrPolicy) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want ErrPolicy with %q", what, err, c.want)
				}
			}
		})
	}
	t.Run("every field is reported", func(t *testing.T) {
		err := attest.Policy{}.Validate()
		for _, want := range []string{"version", "name", "accept", "measurements or signers", "tcb"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// What does not change which evidence is accepted does not change the digest.
func TestDigestIgnoresOrderAndCase(t *testing.T) {
	want := fullPolicy().Digest()
	rapid.Check(t, func(t *rapid.T) {
		p := fullPolicy()
		shuffle(t, &p.Accept, "accept")
		shuffle(t, &p.TCB, "tcb")
		shuffle(t, &p.RefuseFindings, "findings")
		shuffle(t, &p.Signers, "signers")
		shuffle(t, &p.Rules, "rules")
		for name, l := range map[string]*[]string{"measurements": &p.Measurements, "launch digests": &p.LaunchDigests, "platforms": &p.Platforms} {
			shuffle(t, l, name)
			for i := range *l {
				if rapid.Bool().Draw(t, "upper") {
					(*l)[i] = strings.ToUpper((*l)[i])
				}
			}
		}
		if rapid.Bool().Draw(t, "upper signer") {
			p.Signers[0].Signer = strings.ToUpper(p.Signers[0].Signer)
		}
		before := fmt.Sprint(p)
		if got := p.Digest(); got != want {
			t.Fatalf("digest %x, want %x: %+v", got, want, p)
		}
		if fmt.Sprint(p) != before {
			t.Fatal("the digest changed the policy that it is of")
		}
	})
}

// shuffle reorders a list and may repeat an entry.
func shuffle[T any](t *rapid.T, l *[]T, label string) {
	*l = rapid.Permutation(*l).Draw(t, label)
	if rapid.Bool().Draw(t, "repeat "+label) {
		*l = append(*l, (*l)[0])
	}
}

func TestDigestDependsOnEverythingElse(t *testing.T) {
	other := strings.Repeat("77", 32)
	changes := map[string]func(*attest.Policy){
		"version":         func(p *attest.Policy) { p.Version = 2 },
		"name":            func(p *attest.Policy) { p.Name = "Production" },
		"accept":          func(p *attest.Policy) { p.Accept = p.Accept[:1] },
		"allow simulated": func(p *attest.Policy) { p.AllowSimulated = false },
		"allow debug":     func(p *attest.Policy) { p.AllowDebug = false },
		"measurements":    func(p *attest.Policy) { p.Measurements[0] = other },
		"no measurements": func(p *attest.Policy) { p.Measurements = nil },
		"launch digests":  func(p *attest.Policy) { p.LaunchDigests[0] = other },
		"swapped lists":   func(p *attest.Policy) { p.LaunchDigests, p.Platforms = p.Platforms, p.LaunchDigests },
		"signer":          func(p *attest.Policy) { p.Signers[0].Signer = other },
		"product":         func(p *attest.Policy) { p.Signers[0].Product++ },
		"svn":             func(p *attest.Policy) { p.Signers[0].MinSVN++ },
		"tcb":             func(p *attest.Policy) { p.TCB = []string{attest.Any} },
		"platforms":       func(p *attest.Policy) { p.Platforms = nil },
		"findings":        func(p *attest.Policy) { p.RefuseFindings[0] = "expired" },
		"rule name":       func(p *attest.Policy) { p.Rules[0].Name = "VMPL" },
		"rule expression": func(p *attest.Policy) { p.Rules[0].Expr += " " },
		"rule code":       func(p *attest.Policy) { p.Rules[0].Code = "" },
		"rule hint":       func(p *attest.Policy) { p.Rules[0].Hint = "" },
		"no rules":        func(p *attest.Policy) { p.Rules = nil },
	}
	seen := map[[32]byte]string{fullPolicy().Digest(): "unchanged"}
	for name, change := range changes {
		p := fullPolicy()
		change(&p)
		d := p.Digest()
		if twin, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", name, twin)
		}
		seen[d] = name
	}
}

// Digests are in receipts and tokens for years: this one must never change.
func TestDigestIsStable(t *testing.T) {
	const want = "7cee4914a97762f93616ad1e3daaa0e4ebae4bf5c8fa068bb55e0a52cc03ba02"
	p := attest.Policy{
		Version: 1, Name: "hardware-default", TCB: []string{attest.Any}, Measurements: []string{attest.Any},
		Accept: []tee.Kind{tee.SNP, tee.TDX, tee.SGX, tee.Nitro, tee.TPM},
	}
	if got := fmt.Sprintf("%x", p.Digest()); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestDecodeStrict(t *testing.T) {
	var v struct {
		Name  string          `json:"name"`
		Inner json.RawMessage `json:"inner"`
	}
	if err := attest.DecodeStrict([]byte(` {"name":"a","inner":{"x":[1,2,{"y":null}]}} `), &v); err != nil || v.Name != "a" {
		t.Errorf("%+v, %v", v, err)
	}
	for name, in := range map[string]string{
		"unknown": `{"other":1}`, "twice, deep inside": `{"inner":{"x":[{"y":1,"y":2}]}}`, "capitals deep inside": `{"inner":{"X":1}}`,
		"empty name": `{"":1}`, "bytes behind": `{}]`, "two values": `{} {}`, "nothing": ` `, "not closed": `{"inner":[1`, "no JSON": `{name:1}`,
		"depth": strings.Repeat(`{"inner":`, 18) + "1" + strings.Repeat("}", 18),
	} {
		if err := attest.DecodeStrict([]byte(in), &v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Every kind of hardware is in the default, and only it.
func TestDefaultsNameTheTEEs(t *testing.T) {
	for _, k := range tee.Kinds() {
		if got, want := slices.Contains(attest.HardwareDefault().Accept, k), k != tee.Software; got != want {
			t.Errorf("hardware-default accepts %s: %v, want %v", k, got, want)
		}
		if !slices.Contains(attest.Development().Accept, k) {
			t.Errorf("development does not accept %s", k)
		}
	}
	if attest.HardwareDefault().AllowSimulated || attest.HardwareDefault().AllowDebug || attest.Development().AllowDebug {
		t.Error("a default allows too much")
	}
}
