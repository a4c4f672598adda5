package refvalues

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/attest"
)

// RuleName is the name of the rule that Apply adds where lists of a policy
// cannot say what the entries say; CodeReferenceValues is its code.
const (
	RuleName            = "reference values"
	CodeReferenceValues = "reference_values"
)

// Apply puts the reference values into a policy. It fills lists that the policy
// leaves empty or "any" (Accept, Measurements, LaunchDigests, Signers, TCB) and
// adds one rule for what ties them together: an entry's security version and
// settings count only with the entry's measurement. What the policy says already
// stays; where it contradicts, that is an error and the policy is untouched.
// AllowSimulated and AllowDebug are never set.
//
// Every entry must name code: a measurement or a signer with a product. Values
// that are about the platform alone would accept any code on it.
func (v Values) Apply(p *attest.Policy) error {
	if len(v.Entries) == 0 {
		return fmt.Errorf("%w: there are none", ErrApply)
	}
	out := *p
	for i := range v.Entries {
		if err := v.Entries[i].namesCode(); err != nil {
			return err
		}
	}
	if err := v.accept(&out); err != nil {
		return err
	}
	fillers := []struct {
		claim string
		list  *[]string
	}{{claimMeasurement, &out.Measurements}, {claimLaunchDigest, &out.LaunchDigests}, {claimTCB, &out.TCB}}
	for _, f := range fillers {
		if err := v.fill(f.claim, f.list); err != nil {
			return err
		}
	}
	if err := v.signers(&out); err != nil {
		return err
	}
	if err := v.rule(&out); err != nil {
		return err
	}
	*p = out
	return nil
}

func (e *Entry) namesCode() error {
	measurements, measured := e.values(claimMeasurement)
	signers, signed := e.values(claimSigner)
	_, _, product := e.number(claimProduct)
	if measured && len(measurements) == 0 || signed && len(signers) == 0 {
		return fmt.Errorf("%w: %s contradicts itself", ErrApply, e.Source)
	}
	if measured || signed && product {
		return nil
	}
	return fmt.Errorf("%w: %s names neither a measurement nor a signer with a product", ErrApply, e.Source)
}

// accept fills Accept, or checks that it has every TEE.
func (v Values) accept(p *attest.Policy) error {
	if len(p.Accept) == 0 {
		p.Accept = v.Kinds()
		return nil
	}
	for _, k := range v.Kinds() {
		if !slices.Contains(p.Accept, k) {
			return fmt.Errorf("%w: it does not accept %s", ErrApply, k)
		}
	}
	return nil
}

// fill sets a list to the union of what the entries allow, if all of them say
// something. The rule keeps the combinations apart.
func (v Values) fill(claim string, list *[]string) error {
	var union []string
	for i := range v.Entries {
		these, ok := v.Entries[i].values(claim)
		if !ok {
			if claim == claimMeasurement && len(*list) == 0 {
				*list = []string{attest.Any} // there is a signer: see namesCode
			}
			return nil
		}
		union = append(union, these...)
	}
	slices.Sort(union)
	union = slices.Compact(union)
	if len(*list) > 0 && !slices.Equal(*list, []string{attest.Any}) {
		have := slices.Sorted(slices.Values(*list))
		if !slices.Equal(have, union) {
			return fmt.Errorf("%w: its list of %s is another one; empty it first", ErrApply, claim)
		}
		return nil
	}
	*list = union
	return nil
}

// signers fills Signers if every entry names a signer and a product.
func (v Values) signers(p *attest.Policy) error {
	var out []attest.SignerRule
	for i := range v.Entries {
		e := &v.Entries[i]
		signers, ok := e.values(claimSigner)
		product, exact, found := e.number(claimProduct)
		if !ok || !found || !exact {
			return nil
		}
		minimum, _, _ := e.number(claimSVN)
		if product > math.MaxUint32 || minimum > math.MaxUint32 {
			return fmt.Errorf("%w: %s: product and security version have 32 bits", ErrApply, e.Source)
		}
		for _, s := range signers {
			out = append(out, attest.SignerRule{Signer: s, Product: uint32(product), MinSVN: uint32(minimum)})
		}
	}
	if len(p.Signers) > 0 {
		if !slices.Equal(p.Signers, out) {
			return fmt.Errorf("%w: its list of signers is another one; empty it first", ErrApply)
		}
		return nil
	}
	p.Signers = out
	return nil
}

// rule adds the rule that says exactly what the entries say, unless the lists do
// so alone.
func (v Values) rule(p *attest.Policy) error {
	if v.listsSuffice() {
		return nil
	}
	var alternatives []string
	for _, g := range v.groups() {
		alternatives = append(alternatives, "("+g+")")
	}
	expr := strings.Join(alternatives, " || ")
	if len(expr) > attest.MaxExpression {
		return fmt.Errorf("%w: a rule of %d bytes, at most %d: apply fewer entries at once", ErrApply, len(expr), attest.MaxExpression)
	}
	if slices.ContainsFunc(p.Rules, func(r attest.Rule) bool { return r.Name == RuleName }) {
		return fmt.Errorf("%w: it has a rule %q already", ErrApply, RuleName)
	}
	p.Rules = append(slices.Clone(p.Rules), attest.Rule{
		Name: RuleName, Expr: expr, Code: CodeReferenceValues, Hint: "the claims are not those of one release that the reference values name",
	})
	return nil
}

// listsSuffice reports whether every entry is a TEE and its measurements, and
// all are of one TEE.
func (v Values) listsSuffice() bool {
	for _, e := range v.Entries {
		if e.TEE != v.Entries[0].TEE || len(e.Conditions) != 1 || e.Conditions[0].Claim != claimMeasurement {
			return false
		}
	}
	return true
}

// groups returns the alternatives as expressions. Entries that differ in their
// measurement only become one.
func (v Values) groups() []string {
	var out, order []string
	measurements := map[string][]string{}
	for i := range v.Entries {
		e := &v.Entries[i]
		parts := []string{"claims.tee == " + strconv.Quote(string(e.TEE))}
		for _, c := range e.Conditions {
			if c.Claim != claimMeasurement {
				parts = append(parts, c.expression())
			}
		}
		key := strings.Join(parts, " && ")
		these, measured := e.values(claimMeasurement)
		if !measured {
			out = append(out, key)
			continue
		}
		if _, seen := measurements[key]; !seen {
			order = append(order, key)
		}
		measurements[key] = append(measurements[key], these...)
	}
	for _, key := range order {
		m := measurements[key]
		slices.Sort(m)
		out = append(out, key+" && "+anyOf(claimMeasurement, slices.Compact(m)))
	}
	return out
}

func anyOf(claim string, values []string) string {
	quoted := make([]string, len(values))
	for i, s := range values {
		quoted[i] = strconv.Quote(s)
	}
	if len(quoted) == 1 {
		return "claims." + claim + " == " + quoted[0]
	}
	return "claims." + claim + " in [" + strings.Join(quoted, ", ") + "]"
}

// expression spells a condition in CEL. A claim that is not there is an error of
// the rule, which refuses.
func (c Condition) expression() string {
	if c.Min != nil {
		return "claims." + c.Claim + " >= " + strconv.FormatUint(*c.Min, 10) + "u"
	}
	parts := make([]string, len(c.Equal))
	for i, v := range c.Equal {
		switch v := v.(type) {
		case string:
			parts[i] = strconv.Quote(v)
		case uint64:
			parts[i] = strconv.FormatUint(v, 10) + "u"
		case bool:
			parts[i] = strconv.FormatBool(v)
		default:
			parts[i] = "null" // equals no claim
		}
	}
	if len(parts) == 1 {
		return "claims." + c.Claim + " == " + parts[0]
	}
	return "claims." + c.Claim + " in [" + strings.Join(parts, ", ") + "]"
}
