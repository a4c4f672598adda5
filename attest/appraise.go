package attest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// ErrRefused is wrapped by every refusal of an [Appraiser]. The claims are
// genuine and the policy does not accept them: show the failures, release
// nothing.
var ErrRefused = errors.New("refused by policy")

// AppraisalError lists every reason why a policy refuses. Use
// errors.AsType[*AppraisalError] to get at the failures.
type AppraisalError struct {
	Policy   string // name of the policy, empty if there was none
	Failures []tee.Failure
}

// Error lists all failures.
func (e *AppraisalError) Error() string {
	parts := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		parts[i] = f.String()
	}
	return fmt.Sprintf("%v %q: %s", ErrRefused, e.Policy, strings.Join(parts, "; "))
}

// Unwrap makes errors.Is(err, ErrRefused) true.
func (e *AppraisalError) Unwrap() error { return ErrRefused }

// Appraiser compares verified claims with one policy. It is immutable and safe
// for concurrent use. The zero value and nil refuse everything.
type Appraiser struct {
	policy        Policy
	digest        [32]byte
	accept        map[tee.Kind]bool
	measurements  map[string]bool // raw bytes; nil when the policy names none
	launchDigests map[string]bool
	signers       map[string][]SignerRule
	platforms     map[string]bool
	rules         []compiledRule
}

// Compile checks the policy and prepares it for many appraisals. A rule that is
// not valid CEL gives an error with its line and column.
func Compile(p Policy) (*Appraiser, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	rules, err := compileRules(p.Rules)
	if err != nil {
		return nil, err
	}
	a := &Appraiser{
		policy: p.canonical(), digest: p.Digest(), rules: rules,
		measurements: rawSet(p.Measurements), launchDigests: rawSet(p.LaunchDigests), platforms: rawSet(p.Platforms),
		accept: make(map[tee.Kind]bool, len(p.Accept)), signers: make(map[string][]SignerRule, len(p.Signers)),
	}
	for _, k := range p.Accept {
		a.accept[k] = true
	}
	for _, s := range p.Signers {
		raw, _ := hex.DecodeString(s.Signer) // Validate saw to it
		a.signers[string(raw)] = append(a.signers[string(raw)], s)
	}
	return a, nil
}

// rawSet decodes a list of hex values; nil when it is empty or says "any".
func rawSet(l []string) map[string]bool {
	if len(l) == 0 || l[0] == Any {
		return nil
	}
	set := make(map[string]bool, len(l))
	for _, s := range l {
		raw, _ := hex.DecodeString(s)
		set[string(raw)] = true
	}
	return set
}

// Policy returns the policy in canonical form.
func (a *Appraiser) Policy() Policy {
	if a == nil {
		return Policy{}
	}
	return a.policy.canonical()
}

// Digest returns the digest of the policy, see [Policy.Digest]; zero without a
// policy.
func (a *Appraiser) Digest() [32]byte {
	if a == nil {
		return [32]byte{}
	}
	return a.digest
}

// Appraise returns nil if the policy accepts the claims, else an
// [*AppraisalError] with every failure.
func (a *Appraiser) Appraise(v *Verified) error {
	if a == nil || a.policy.Version == 0 {
		return &AppraisalError{Failures: []tee.Failure{{Code: CodePolicyEmpty, Hint: "name a policy: an empty one accepts nothing"}}}
	}
	if v == nil {
		v = &Verified{}
	}
	r := refusals{}
	a.checkTEE(&r, v.Claims)
	a.checkCode(&r, v.Claims)
	a.checkPlatform(&r, v.Claims)
	a.checkFindings(&r, v.Findings)
	a.checkRules(&r, v)
	if len(r) > 0 {
		return &AppraisalError{Policy: a.policy.Name, Failures: r}
	}
	return nil
}

// refusals collects failures.
type refusals []tee.Failure

func (r *refusals) add(code tee.Code, claim, want, got, hint string) {
	if got == "" {
		got = "none"
	}
	*r = append(*r, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

func (a *Appraiser) checkTEE(r *refusals, c tee.Claims) {
	if !a.accept[c.TEE] {
		r.add(CodeTEE, "tee", fmt.Sprint(a.policy.Accept), string(c.TEE), "add the TEE to accept if it is strong enough for this purpose")
	}
	if c.Simulated && !a.policy.AllowSimulated {
		r.add(CodeSimulated, "simulated", "false", "true", "simulated evidence protects nothing from the host; development policies say allow_simulated: true")
	}
	if c.Debug && !a.policy.AllowDebug {
		r.add(CodeDebug, "debug", "false", "true", "start the instance without debug; the host can read a debug instance")
	}
}

func (a *Appraiser) checkCode(r *refusals, c tee.Claims) {
	if len(a.policy.Measurements) > 0 {
		switch {
		case len(c.Measurement) == 0:
			r.add(CodeMeasurement, "measurement", short(a.policy.Measurements), "", "this evidence measures no code")
		case a.measurements != nil && !a.measurements[string(c.Measurement)]:
			r.add(CodeMeasurement, "measurement", short(a.policy.Measurements), c.Measurement.String(), "other code runs; if it is the intended release, add its measurement")
		}
	}
	if c.LaunchByGuest && a.measurements == nil && (a.launchDigests != nil || len(a.policy.Signers) > 0) {
		r.add(CodeMeasurement, "measurement", "one that the policy names", c.Measurement.String(), "on this TEE the guest itself says what it launched, and any guest can say anything: name the measurements of guests that you trust")
	}
	if a.launchDigests != nil && !a.launchDigests[string(c.LaunchDigest)] {
		r.add(CodeLaunchDigest, "launch_digest", short(a.policy.LaunchDigests), hex.EncodeToString(c.LaunchDigest), "the image, its arguments or its settings differ from the accepted launch document")
	}
	if len(a.policy.Signers) > 0 {
		a.checkSigner(r, c)
	}
}

func (a *Appraiser) checkSigner(r *refusals, c tee.Claims) {
	lowest, product := uint32(0), false
	for _, s := range a.signers[string(c.Signer)] {
		if s.Product != c.Product {
			continue
		}
		if c.SVN >= s.MinSVN {
			return
		}
		if !product || s.MinSVN < lowest {
			lowest, product = s.MinSVN, true
		}
	}
	if product {
		r.add(CodeSVN, "svn", "at least "+strconv.FormatUint(uint64(lowest), 10), strconv.FormatUint(uint64(c.SVN), 10), "update the image: this version was withdrawn")
	}
	if !product {
		want := make([]string, len(a.policy.Signers))
		for i, s := range a.policy.Signers {
			want[i] = fmt.Sprintf("%s product %d", s.Signer, s.Product)
		}
		got := ""
		if len(c.Signer) > 0 {
			got = fmt.Sprintf("%x product %d", c.Signer, c.Product)
		}
		r.add(CodeSigner, "signer", short(want), got, "sign the image with an accepted key, or add its signer to the policy")
	}
}

func (a *Appraiser) checkPlatform(r *refusals, c tee.Claims) {
	any := a.policy.TCB[0] == Any && c.TCB != "" && c.TCB != tee.TCBRevoked
	if !any && !slices.Contains(a.policy.TCB, string(c.TCB)) {
		r.add(CodeTCB, "tcb_status", short(a.policy.TCB), string(c.TCB), "update the platform's firmware, or accept the status by name")
	}
	if a.platforms == nil {
		return
	}
	raw, err := hex.DecodeString(c.Platform)
	if err != nil || len(raw) == 0 || !a.platforms[string(raw)] {
		r.add(CodePlatform, "platform", short(a.policy.Platforms), c.Platform, "enrol the platform in the policy's platforms if it is one of yours")
	}
}

func (a *Appraiser) checkFindings(r *refusals, findings []tee.Finding) {
	for _, f := range findings {
		if f.Code == tee.CodeCollateralMissing && !a.policy.AllowMissingCollateral {
			r.add(CodeFinding, "collateral", "the vendor's current documents and revocation lists", f.Detail, "give them (cloister attest collateral fetch), or write allow_missing_collateral in the policy")
			continue
		}
		if late := f.Code == tee.CodeCollateralExpired; late && a.policy.CollateralGraceDays == 0 {
			r.add(CodeFinding, "collateral", "current", f.Detail, "fetch it again, or write collateral_grace_days in the policy")
			continue
		}
		if slices.Contains(a.policy.RefuseFindings, string(f.Code)) || slices.Contains(a.policy.RefuseFindings, Any) {
			r.add(CodeFinding, "findings", "no "+string(f.Code), f.Detail, "the policy refuses this finding")
		}
	}
}

// short keeps failures readable when a policy lists many values.
func short(l []string) string {
	const most = 4
	if len(l) <= most {
		return strings.Join(l, ", ")
	}
	return fmt.Sprintf("%s, … (%d values)", strings.Join(l[:most], ", "), len(l))
}

// Codes returns the distinct codes of the failures in err, an
// [*AppraisalError] or [*tee.VerifyError], sorted; nil for any other error.
func Codes(err error) []tee.Code {
	set := map[tee.Code]bool{}
	for _, f := range Failures(err) {
		set[f.Code] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Failures returns the failures inside err, whichever of this package's or
// package tee's error types it is; nil if it is none of them.
func Failures(err error) []tee.Failure {
	if e, ok := errors.AsType[*AppraisalError](err); ok {
		return e.Failures
	}
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		return e.Failures
	}
	if e, ok := errors.AsType[*TokenError](err); ok {
		return e.Failures
	}
	return nil
}
