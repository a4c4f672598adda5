package attest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/tee"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// Bounds on what a rule may cost. The unit is CEL's own runtime cost: roughly
// one per comparison or member access, one per ten bytes of text.
const (
	maxRuleCost  = 20_000
	maxRuleDepth = 64
)

type compiledRule struct {
	Rule
	program cel.Program
}

// compileRules turns expressions into programs.
func compileRules(rules []Rule) ([]compiledRule, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	env, err := cel.NewEnv(
		cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("findings", cel.ListType(cel.StringType)),
		// Claims hold unsigned and signed numbers; a rule should not care which.
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxRuleDepth),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	out := make([]compiledRule, len(rules))
	for i, r := range rules {
		ast, issues := env.Compile(r.Expr)
		if issues.Err() != nil {
			return nil, fmt.Errorf("%w: rules[%d] %q: %s", ErrPolicy, i, r.Name, positions(issues))
		}
		if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
			return nil, fmt.Errorf("%w: rules[%d] %q: 1:1: result is %s, want bool", ErrPolicy, i, r.Name, t)
		}
		program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxRuleCost))
		if err != nil {
			return nil, fmt.Errorf("%w: rules[%d] %q: %v", ErrPolicy, i, r.Name, err)
		}
		if r.Code == "" {
			r.Code = CodeRule
		}
		out[i] = compiledRule{Rule: r, program: program}
	}
	return out, nil
}

// positions lists compile errors as "line:column: message".
func positions(issues *cel.Issues) string {
	var parts []string
	for _, e := range issues.Errors() {
		parts = append(parts, fmt.Sprintf("%d:%d: %s", e.Location.Line(), e.Location.Column()+1, e.Message))
	}
	return strings.Join(parts, "; ")
}

// checkRules evaluates every rule over the claims. Anything but true refuses.
func (a *Appraiser) checkRules(r *refusals, v *Verified) {
	if len(a.rules) == 0 {
		return
	}
	vars := map[string]any{"claims": v.Claims.Tree(), "findings": findingCodes(v.Findings)}
	for _, rule := range a.rules {
		if got := rule.eval(vars); got != "true" {
			r.add(rule.Code, "rule "+rule.Name, rule.Expr, got, rule.Hint)
		}
	}
}

// eval returns "true", "false" or why there is no result.
func (rule compiledRule) eval(vars map[string]any) (result string) {
	// Our bug or the library's, but never a reason to accept or to crash.
	defer func() {
		if p := recover(); p != nil {
			result = "error: the rule could not be evaluated"
		}
	}()
	out, _, err := rule.program.Eval(vars)
	if err != nil {
		return "error: " + err.Error()
	}
	return truth(out)
}

func truth(out ref.Val) string {
	b, ok := out.(types.Bool)
	if !ok {
		return fmt.Sprintf("a %s, not a bool", out.Type().TypeName())
	}
	if b {
		return "true"
	}
	return "false"
}

func findingCodes(findings []tee.Finding) []string {
	codes := make([]string, len(findings))
	for i, f := range findings {
		codes[i] = string(f.Code)
	}
	slices.Sort(codes)
	return codes
}
