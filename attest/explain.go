package attest

import (
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/parser"
)

// Explain appraises and returns why, field by field of the policy and, of a
// rule, operand by operand of its conjunctions. Its root is true exactly when
// [Appraiser.Appraise] accepts.
func (a *Appraiser) Explain(v *Verified) term.Node {
	failures := Failures(a.Appraise(v))
	root := term.Node{Text: "appraisal policy", Result: term.Of(len(failures) == 0)}
	if a == nil || a.policy.Version == 0 {
		root.Want, root.Got = "a policy", "none"
		return root
	}
	root.Text += " " + a.policy.Name
	p := a.policy
	for _, field := range []struct {
		name    string
		given   bool
		text    string
		refuses []tee.Code
	}{
		{"accept", true, kinds(p.Accept), []tee.Code{CodeTEE}},
		{"allow_simulated", true, boolText(p.AllowSimulated), []tee.Code{CodeSimulated}},
		{"allow_debug", true, boolText(p.AllowDebug), []tee.Code{CodeDebug}},
		{"measurements", len(p.Measurements) > 0, short(p.Measurements), []tee.Code{CodeMeasurement}},
		{"launch_digests", len(p.LaunchDigests) > 0, short(p.LaunchDigests), []tee.Code{CodeLaunchDigest}},
		{"signers", len(p.Signers) > 0, "", []tee.Code{CodeSigner, CodeSVN}},
		{"tcb", true, short(p.TCB), []tee.Code{CodeTCB}},
		{"platforms", len(p.Platforms) > 0, short(p.Platforms), []tee.Code{CodePlatform}},
		{"refuse_findings", len(p.RefuseFindings) > 0, short(p.RefuseFindings), []tee.Code{CodeFinding}},
	} {
		if field.given {
			root.Terms = append(root.Terms, fieldTerm(field.name, field.text, field.refuses, failures))
		}
	}
	if len(a.rules) > 0 {
		root.Terms = append(root.Terms, a.explainRules(v))
	}
	return root
}

// fieldTerm is one field of the policy: true unless a failure has one of its
// codes.
func fieldTerm(name, text string, codes []tee.Code, failures []tee.Failure) term.Node {
	n := term.Node{Text: name, Position: "/" + name, Result: term.True}
	if text != "" {
		n.Text += ": " + text
	}
	for _, f := range failures {
		if slices.Contains(codes, f.Code) && !strings.HasPrefix(f.Claim, "rule ") {
			n.Claim, n.Result, n.Want, n.Got = f.Claim, term.False, f.Want, f.Got
		}
	}
	return n
}

func kinds(list []tee.Kind) string {
	out := make([]string, len(list))
	for i, k := range list {
		out[i] = string(k)
	}
	return short(out)
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func (a *Appraiser) explainRules(v *Verified) term.Node {
	if v == nil {
		v = &Verified{}
	}
	vars := map[string]any{"claims": v.Claims.Tree(), "findings": findingCodes(v.Findings)}
	n := term.Node{Text: "rules", Position: "/rules", Result: term.True}
	for _, rule := range a.rules {
		t := term.Node{Text: rule.Name + ": " + rule.Expr, Result: resultOf(rule.eval(vars))}
		for _, operand := range operands(rule.Expr) {
			t.Terms = append(t.Terms, explainOperand(operand, vars))
		}
		if t.Result != term.True {
			n.Result, t.Want, t.Got = term.False, "true", rule.eval(vars)
		}
		n.Terms = append(n.Terms, t)
	}
	return n
}

// resultOf reads what a rule's evaluation says.
func resultOf(eval string) term.Result {
	switch eval {
	case "true":
		return term.True
	case "false":
		return term.False
	default:
		return term.Error
	}
}

// explainOperand evaluates one operand of a conjunction by itself.
func explainOperand(expr string, vars map[string]any) term.Node {
	n := term.Node{Text: expr, Result: term.NotReached}
	rules, err := compileRules([]Rule{{Name: "operand", Expr: expr}})
	if err != nil {
		return n // it was taken out of its context: the rule as a whole says what counts
	}
	got := rules[0].eval(vars)
	if n.Result = resultOf(got); n.Result != term.True {
		n.Want, n.Got = "true", got
	}
	return n
}

// operands splits an expression at its outermost conjunctions; nil when it has
// none.
func operands(expr string) []string {
	env, err := cel.NewEnv()
	if err != nil {
		return nil
	}
	parsed, issues := env.Parse(expr)
	if issues.Err() != nil {
		return nil
	}
	native := parsed.NativeRep()
	var out []string
	var walk func(e ast.Expr)
	walk = func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
			for _, arg := range e.AsCall().Args() {
				walk(arg)
			}
			return
		}
		if text, err := parser.Unparse(e, native.SourceInfo()); err == nil {
			out = append(out, text)
		}
	}
	walk(native.Expr())
	if len(out) < 2 {
		return nil
	}
	return out
}
