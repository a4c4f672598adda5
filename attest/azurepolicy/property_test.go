package azurepolicy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// writer draws policies that are valid, spelled in any way that is allowed.
type writer struct {
	t     *rapid.T
	names []string // of the rule's conditions
}

func (w *writer) pick(s ...string) string { return rapid.SampledFrom(s).Draw(w.t, "pick") }

func (w *writer) space() string { return w.pick("", "", " ", "\n", "\t", " // note\n", "\r\n") }

func (w *writer) join(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p + w.space())
	}
	return b.String()
}

func (w *writer) text() string {
	s := rapid.StringOfN(rapid.RuneFrom([]rune(`ab"\ ->=[]{};:/é語`)), 1, 8, -1).Draw(w.t, "text")
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (w *writer) literal() string {
	return w.pick("true", "false", "0", "-7", "0x1F", "9223372036854775807", "- 3", w.text())
}

func (w *writer) expression(depth int) string {
	switch n := rapid.IntRange(0, 5).Draw(w.t, "kind"); {
	case n == 0 && len(w.names) > 0:
		return w.pick(w.names...) + "." + w.pick("value", "type", "issuer", "valueType")
	case n == 1 && depth < 4:
		return w.join("AppendString", "(", w.expression(depth+1), ",", w.expression(depth+1), ")")
	case n == 2 && depth < 4:
		return w.join(w.pick("NegateBool", "JsonToClaimValue"), "(", w.expression(depth+1), ")")
	case n == 3 && depth < 4:
		return w.join("JmesPath", "(", w.expression(depth+1), ",", `"a.b[0]"`, ")")
	}
	return w.literal()
}

func (w *writer) test() string {
	switch rapid.IntRange(0, 4).Draw(w.t, "test") {
	case 0:
		return w.join("type", w.pick("==", "=", "!="), w.text())
	case 1:
		return w.join("issuer", w.pick("==", "!="), `"`+w.pick("AttestationService", "AttestationPolicy", "CustomClaim")+`"`)
	case 2:
		return w.join("value", w.pick("<", "<=", ">", ">="), w.pick("1", "-1"))
	case 3:
		return w.join("value", w.pick("=~", "!~"), `"^a[bc]+$"`)
	}
	return w.join("value", w.pick("==", "!="), w.expression(0))
}

func (w *writer) condition() string {
	var tests []string
	for range rapid.IntRange(1, 3).Draw(w.t, "tests") {
		tests = append(tests, w.test())
	}
	body := w.join("[", strings.Join(tests, ","), "]")
	switch rapid.IntRange(0, 3).Draw(w.t, "form") {
	case 0:
		return w.join("!", body)
	case 1:
		name := fmt.Sprintf("c%d", len(w.names))
		w.names = append(w.names, name)
		return w.join(name, ":", body)
	}
	return body
}

func (w *writer) rule(verbs ...string) string {
	w.names = nil
	var conditions []string
	for range rapid.IntRange(0, 3).Draw(w.t, "conditions") {
		conditions = append(conditions, w.condition())
	}
	verb, body := w.pick(verbs...), ""
	switch {
	case verb == "permit" || verb == "deny":
	case len(w.names) > 0 && rapid.Bool().Draw(w.t, "claim"):
		body = w.join("claim", "=", w.pick(w.names...))
	default:
		body = w.join("type", "=", w.text(), ",", "value", "=", w.expression(0))
	}
	return w.join(strings.Join(conditions, "&&"), "=>", verb, "(", body, ")", ";")
}

func (w *writer) policy() string {
	s := w.join(w.pick("version", "Version"), "=", "1.2", ";")
	for _, section := range []struct {
		name  string
		verbs []string
	}{{"configurationrules", []string{"issueproperty"}}, {"authorizationrules", []string{"permit", "deny", "add"}}, {"issuancerules", []string{"issue", "add", "issueproperty"}}} {
		if section.name != "authorizationrules" && rapid.Bool().Draw(w.t, "skip") {
			continue
		}
		s += w.join(section.name, "{")
		for range rapid.IntRange(0, 4).Draw(w.t, "rules") {
			s += w.rule(section.verbs...)
		}
		s += w.join("}", w.pick("", ";"))
	}
	return s
}

func drawClaims(t *rapid.T) []azurepolicy.Claim {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) azurepolicy.Claim {
		return azurepolicy.Claim{
			Type:     rapid.StringOfN(rapid.RuneFrom([]rune(`ab"\ `)), 1, 2, -1).Draw(t, "type"),
			Value:    rapid.OneOf(rapid.Just[any](true), rapid.Just[any](7), rapid.Just[any]("abc"), rapid.Just[any](`{"a":{"b":["x"]}}`)).Draw(t, "value"),
			Issuer:   rapid.SampledFrom([]string{"", azurepolicy.IssuerService, azurepolicy.IssuerPolicy}).Draw(t, "issuer"),
			ReadOnly: rapid.Bool().Draw(t, "readOnly"),
		}
	}), 0, 8).Draw(t, "claims")
}

// What is printed parses to what prints the same and decides the same, and a
// decision is the same each time.
func TestPrintedPoliciesParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := writer{t: t}
		text := w.policy()
		p, err := azurepolicy.Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		printed := p.String()
		q, err := azurepolicy.Parse(printed)
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		if q.String() != printed {
			t.Fatalf("%s\nbecame\n%s", printed, q.String())
		}
		in := drawClaims(t)
		o := azurepolicy.Options{Explain: true}
		a, errA := p.Evaluate(in, o)
		b, errB := p.Evaluate(in, o)
		if d := cmp.Diff(a, b); d != "" || fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Fatal(d, errA, errB)
		}
		c, errC := q.Evaluate(in, azurepolicy.Options{})
		if a.Permitted != c.Permitted || (errA == nil) != (errC == nil) || !cmp.Equal(a.Issued, c.Issued) {
			t.Fatalf("%v %v, printed %v %v", a.Permitted, errA, c.Permitted, errC)
		}
		checkOutcome(t, a, errA)
	})
}

// checkOutcome holds what is true of every outcome.
func checkOutcome(t interface{ Fatalf(string, ...any) }, out azurepolicy.Outcome, err error) {
	switch {
	case out.Permitted && err != nil:
		t.Fatalf("permitted in spite of %v", err)
	case !out.Permitted && (out.Issued != nil || out.Properties != nil):
		t.Fatalf("refused, and issued %v %v", out.Issued, out.Properties)
	case err != nil && out.Trace.Result != term.Error, err == nil && out.Trace.Text != "" && out.Trace.Result != term.Of(out.Permitted):
		t.Fatalf("%v, %v, and the trace says %v", out.Permitted, err, out.Trace.Result)
	}
	if leaf, ok := out.Trace.FirstRefusal(); ok == out.Permitted {
		t.Fatalf("permitted %v, to blame: %v\n%v", out.Permitted, leaf, out.Trace)
	}
	if _, err := json.Marshal(out.Trace); err != nil {
		t.Fatalf("%v", err)
	}
}
