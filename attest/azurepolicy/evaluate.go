package azurepolicy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/attest/azurepolicy/internal/jmespath"
	"github.com/cloister-cc/cloister/attest/term"
)

// Bounds of an evaluation. Beyond them it ends with an error, which refuses.
const (
	MaxIncoming = 1024    // claims given to Evaluate
	MaxClaims   = 2048    // with those that rules add
	MaxValue    = 1 << 20 // bytes of one value
	maxSteps    = 1_000_000
	maxBytes    = 4 << 20 // of values that rules make
	maxTuples   = 4096    // of claims that fit a rule together
)

// Options of an evaluation. The zero value is the strict one.
type Options struct {
	// AllowSimulated and AllowDebug let evidence with the claims
	// [ClaimSimulated] and [ClaimDebug] through when the policy's authorization
	// conditions name no such claim. Microsoft's service issues tokens for debug
	// enclaves and leaves the claim to the reader of the token; a face that has
	// to do the same says AllowDebug.
	AllowSimulated bool
	AllowDebug     bool
	// Explain fills Trace for permitted evidence, too.
	Explain bool
}

// Outcome is what a policy decided. The zero value refuses.
type Outcome struct {
	Permitted bool
	// Issued are the outgoing claims: bool, int64, string, or []any of these for
	// a type that was issued with several values. They go into the token beside
	// the service's own claims, which must win where names are equal.
	Issued map[string]any
	// Properties are what issueproperty set. The caller acts on each of them or
	// refuses: see [KnownProperty].
	Properties map[string]any
	// Trace explains the decision. It is empty for permitted evidence unless
	// Options.Explain is set.
	Trace term.Node
}

// Evaluate decides over the incoming claims. The outcome refuses, with a trace
// that says why, also where the error is not nil; the error says that the
// decision rests on a defect of the policy or its input and not on the evidence.
//
// Configuration rules run first, then every authorization rule; issuance rules
// run only for what is permitted. Within a rule each condition looks for claims
// that fit it. A named condition stands for all claims that fit it (and, if
// conditions compare claims with each other, that have partners): plain uses
// such as value=c.value run once for each of them, functions get them all as one
// set ("Claim rule functions", IsSubsetOf).
func (p *Policy) Evaluate(incoming []Claim, o Options) (Outcome, error) {
	if p == nil || p.version == "" {
		return Outcome{Trace: term.Node{Text: "attestation policy", Result: term.False, Want: "a policy", Got: "none"}}, nil
	}
	claims, err := readClaims(incoming)
	if err != nil {
		return Outcome{Trace: term.Node{Text: "incoming claims", Result: term.Error, Got: err.Error()}}, fmt.Errorf("%w: %w", ErrEvaluation, err)
	}
	e := evaluation{p: p, o: o, claims: claims, steps: maxSteps}
	permitted, err := e.run()
	out := Outcome{Permitted: permitted && err == nil}
	if out.Permitted {
		out.Issued, out.Properties = collect(e.outgoing), collect(e.properties)
	}
	if !out.Permitted || o.Explain {
		// The same again, slower, for the explanation: evaluation is pure.
		claims, _ = readClaims(incoming) // the first run has changed its own
		again := evaluation{p: p, o: o, claims: claims, steps: maxSteps, rec: &recorder{}}
		_, _ = again.run()
		out.Trace = again.rec.root(p, out.Permitted)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrEvaluation, err)
	}
	return out, err
}

func readClaims(incoming []Claim) ([]claim, error) {
	if len(incoming) > MaxIncoming {
		return nil, fmt.Errorf("%d claims, at most %d", len(incoming), MaxIncoming)
	}
	const room = 8 // for claims that rules add
	out := make([]claim, len(incoming), len(incoming)+room)
	for i := range incoming {
		c, to := &incoming[i], &out[i]
		if err := to.value.set(c.Value); err != nil {
			return nil, fmt.Errorf("claim %q: %w", term.Clean(c.Type, term.MaxValue), err)
		}
		if c.Type == "" || len(c.Type) > maxTypeName || len(to.value.s) > MaxValue {
			return nil, fmt.Errorf("claim %d: want a type of 1 to %d bytes and a value of at most %d", i, maxTypeName, MaxValue)
		}
		if to.issuer = readIssuer(c.Issuer); to.issuer == byNobody {
			return nil, fmt.Errorf("claim %q: unknown issuer", term.Clean(c.Type, term.MaxValue))
		}
		to.typ, to.value.readOnly = c.Type, c.ReadOnly
	}
	return out, nil
}

// collect turns claims into the members of a token. A type with one value stays
// one, with several it becomes an array in the order of issue; equal claims are
// one.
func collect(claims []claim) map[string]any {
	out := make(map[string]any, len(claims))
	for _, c := range claims {
		switch old := out[c.typ].(type) {
		case nil:
			out[c.typ] = c.value.public()
		case []any:
			out[c.typ] = append(old, c.value.public())
		default:
			out[c.typ] = []any{old, c.value.public()}
		}
	}
	return out
}

// evaluation is one run of a policy.
type evaluation struct {
	p                    *Policy
	o                    Options
	claims               []claim
	outgoing, properties []claim
	steps                int
	bytes                int
	docs                 map[string]any
	rec                  *recorder // nil unless somebody wants to know why
}

// located is an error with its place in the policy.
type located struct {
	at  position
	err error
}

func (l *located) Error() string { return l.at.String() + ": " + l.err.Error() }
func (l *located) Unwrap() error { return l.err }

// locate adds the place to an error that has none yet.
func locate(at position, err error) error {
	if _, ok := errors.AsType[*located](err); ok || err == nil {
		return err
	}
	return &located{at, err}
}

func (e *evaluation) step(n int) error {
	if e.steps -= n; e.steps < 0 {
		e.steps = 0
		return jmespath.ErrBudget
	}
	return nil
}

// grow accounts for a value that a rule makes.
func (e *evaluation) grow(n int) error {
	if e.bytes += n; n > MaxValue || e.bytes > maxBytes {
		return errors.New("the policy makes values that are too large")
	}
	return e.step(n / 64)
}

func (e *evaluation) run() (permitted bool, err error) {
	if _, _, err := e.section(configuration); err != nil {
		return false, err
	}
	guarded := e.guards()
	permits, denied, err := e.section(authorization)
	if err != nil || denied || !permits || !guarded {
		return false, err
	}
	if _, _, err := e.section(issuance); err != nil {
		return false, err
	}
	return true, nil
}

// section runs the rules of a section, in their order and to the last one: any
// deny counts, wherever it stands.
func (e *evaluation) section(k sectionKind) (permits, denied bool, err error) {
	rules := e.p.sections[k].rules
	if e.rec != nil {
		e.rec.section(e.p, k)
	}
	for i := range rules {
		r := &rules[i]
		b, fires, err := e.match(r)
		if e.rec != nil {
			e.rec.rule(e, r, fires, err)
		}
		if err == nil && fires {
			switch r.act.kind {
			case permit:
				permits = true
			case deny:
				denied = true
			case add, issue, issueProperty:
				err = e.act(r, &b)
			}
		}
		if err != nil {
			err = locate(r.at, err)
			if e.rec != nil {
				e.rec.fail(err)
			}
			return false, false, err
		}
	}
	return permits, denied, nil
}

// guards refuses simulated and debug evidence that neither the policy nor the
// caller speaks of.
func (e *evaluation) guards() bool {
	ok := true
	for _, g := range []struct {
		claim   string
		allowed bool
		names   []string
	}{
		{ClaimSimulated, e.o.AllowSimulated, []string{ClaimSimulated}},
		{ClaimDebug, e.o.AllowDebug, debugClaims()},
	} {
		if g.allowed || slices.ContainsFunc(g.names, func(n string) bool { return e.p.names[n] }) {
			continue
		}
		for i := range e.claims {
			c := &e.claims[i]
			if c.typ == g.claim && c.issuer == byService && !c.value.equal(boolValue(false)) {
				ok = false
				if e.rec != nil {
					e.rec.guard(g.claim, c.value)
				}
			}
		}
	}
	return ok
}
