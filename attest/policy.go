package attest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Any is what a list of a policy says when every value is welcome. It has to be
// written: an absent list never means "anything" where the list is required.
const Any = "any"

// Bounds of a policy. A policy beyond them is refused.
const (
	MaxPolicy      = 256 << 10 // JSON bytes
	MaxPolicyItems = 4096      // entries of any list
	MaxRules       = 64
	MaxExpression  = 4096 // bytes of one CEL expression
	MaxName        = 128  // bytes of a name, code or hint is four times that
	MaxGraceDays   = 3660 // ten years
	policyVersion  = 1
)

// ErrPolicy is wrapped by every error of [ParsePolicy], [Policy.Validate] and
// [Compile]; the text names each field and what it must be.
var ErrPolicy = errors.New("invalid appraisal policy")

// Policy is an appraisal policy (RFC 9334 section 8.5): which verified claims
// are acceptable. Every list that is given must be met. Required are Version,
// Name, Accept, TCB and at least one of Measurements and Signers. The zero
// value accepts nothing.
type Policy struct {
	Version int    `json:"version"` // 1
	Name    string `json:"name"`
	// Accept names the TEEs that are acceptable.
	Accept []tee.Kind `json:"accept"`
	// AllowSimulated and AllowDebug accept what production must not.
	AllowSimulated bool `json:"allow_simulated,omitempty"`
	AllowDebug     bool `json:"allow_debug,omitempty"`
	// Measurements are launch measurements in hex, or ["any"]. "any" still wants
	// one: evidence that measures nothing is refused.
	Measurements []string `json:"measurements,omitempty"`
	// LaunchDigests are SHA-256 digests of launch documents in hex. Where the guest
	// itself says what it launched (tee.Claims.LaunchByGuest), they and Signers are
	// refused without Measurements by name.
	LaunchDigests []string `json:"launch_digests,omitempty"`
	// Signers accept any image of a signer's product from a security version on.
	Signers []SignerRule `json:"signers,omitempty"`
	// TCB are the acceptable TCB statuses, or ["any"], which accepts each except
	// Revoked: that one must be named.
	TCB []string `json:"tcb"`
	// Platforms, when given, is the allow-list of platform identities.
	Platforms []string `json:"platforms,omitempty"`
	// CollateralGraceDays is by how many days collateral and revocation lists may
	// be past their next update, at most ten years; see [Policy.Grace]. Without it,
	// what is stale does not verify.
	CollateralGraceDays int `json:"collateral_grace_days,omitempty"`
	// AllowMissingCollateral accepts evidence although a vendor's document or
	// revocation list that says how good the platform is was not there (finding
	// collateral_missing). Hazard: the platform may have been revoked.
	AllowMissingCollateral bool `json:"allow_missing_collateral,omitempty"`
	// RefuseFindings are codes of findings that refuse, or ["any"].
	RefuseFindings []string `json:"refuse_findings,omitempty"`
	Rules          []Rule   `json:"rules,omitempty"`
}

// SignerRule accepts images that Signer signed for Product with a security
// version of at least MinSVN. The claim is only as good as the code that makes
// it: on TEEs that do not measure the signer in hardware (all but SGX) name the
// platform's Measurements too.
type SignerRule struct {
	Signer  string `json:"signer"` // SHA-256 of the signer's public key, hex
	Product uint32 `json:"product"`
	MinSVN  uint32 `json:"min_svn"`
}

// Rule is a condition in CEL over the variables claims (the tree of
// [tee.Claims.Tree]) and findings (the list of finding codes). It refuses when
// it is false, fails to evaluate or costs too much.
type Rule struct {
	Name string   `json:"name"`
	Expr string   `json:"expr"`
	Code tee.Code `json:"code,omitempty"` // default "rule"
	Hint string   `json:"hint,omitempty"`
}

// HardwareDefault accepts any code on any hardware TEE without debug; it says
// that the TEE is genuine and nothing about what runs in it.
func HardwareDefault() Policy {
	return Policy{
		Version: policyVersion, Name: "hardware-default", TCB: []string{Any}, Measurements: []string{Any},
		Accept: []tee.Kind{tee.SNP, tee.TDX, tee.SGX, tee.Nitro, tee.AzureSNP, tee.AzureTDX, tee.ArmCCA, tee.TPM},
	}
}

// Development is [HardwareDefault] plus the simulated software TEE. It is for
// laptops and tests.
func Development() Policy {
	p := HardwareDefault()
	p.Name = "development"
	p.Accept = append(p.Accept, tee.Software)
	p.AllowSimulated = true
	return p
}

// Grace is CollateralGraceDays as a duration, for [tee.Input].
func (p Policy) Grace() time.Duration { return time.Duration(p.CollateralGraceDays) * 24 * time.Hour }

// ParsePolicy reads a policy from JSON. It refuses unknown, duplicate and
// wrongly spelled fields, trailing bytes, and everything that
// [Policy.Validate] refuses.
func ParsePolicy(b []byte) (Policy, error) {
	var p Policy
	if len(b) > MaxPolicy {
		return Policy{}, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(b), MaxPolicy)
	}
	if err := DecodeStrict(b, &p); err != nil {
		return Policy{}, fmt.Errorf("%w: %v", ErrPolicy, err)
	}
	if err := p.Validate(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// Digest returns the SHA-256 that names the policy in receipts and tokens. It
// is taken over a canonical form: the order of lists, repeated entries and the
// case of hex do not matter, everything else does.
func (p Policy) Digest() [32]byte {
	canonical := p.canonical()
	b, err := json.Marshal(canonical)
	if err != nil {
		// Only strings, numbers and booleans: Marshal cannot fail.
		panic("attest: encode policy: " + err.Error())
	}
	return sha256.Sum256(append([]byte("cloister appraisal policy v1\n"), b...))
}

func (p Policy) canonical() Policy {
	set := func(l []string) []string {
		out := slices.Clone(l)
		for i := range out {
			if isHex(out[i]) {
				out[i] = strings.ToLower(out[i])
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	p.Accept = slices.Compact(slices.Sorted(slices.Values(p.Accept)))
	p.Measurements, p.LaunchDigests = set(p.Measurements), set(p.LaunchDigests)
	p.TCB, p.RefuseFindings, p.Platforms = set(p.TCB), set(p.RefuseFindings), set(p.Platforms)
	p.Signers = slices.Clone(p.Signers)
	for i := range p.Signers {
		p.Signers[i].Signer = strings.ToLower(p.Signers[i].Signer)
	}
	slices.SortFunc(p.Signers, func(a, b SignerRule) int {
		return cmp.Or(strings.Compare(a.Signer, b.Signer), cmp.Compare(a.Product, b.Product), cmp.Compare(a.MinSVN, b.MinSVN))
	})
	p.Signers = slices.Compact(p.Signers)
	p.Rules = slices.Clone(p.Rules)
	slices.SortFunc(p.Rules, func(a, b Rule) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Expr, b.Expr), strings.Compare(string(a.Code), string(b.Code)), strings.Compare(a.Hint, b.Hint))
	})
	p.Rules = slices.Compact(p.Rules)
	return p
}

// maxCode is the length of a code in bytes.
const maxCode = 64

// validName wants letters, digits, spaces, ".", "_", "/" and "-", and a letter or
// digit first. (Not a regular expression: every process of an instance would
// compile it when it starts.)
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || !strings.ContainsRune(" ._/-", rune(c))) {
			return false
		}
	}
	return s != "" && len(s) <= MaxName
}

// validCode wants lower-case letters, digits and "_", and a letter first.
func validCode(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= maxCode
}

// Validate reports every field that is missing or wrong, except that rules are
// only compiled by [Compile].
func (p Policy) Validate() error {
	var errs []string
	bad := func(format string, a ...any) { errs = append(errs, fmt.Sprintf(format, a...)) }
	if p.Version != policyVersion {
		bad("version %d: want %d", p.Version, policyVersion)
	}
	if !validName(p.Name) {
		bad("name: want 1 to %d letters, digits, spaces, '.', '_', '/', '-'", MaxName)
	}
	if len(p.Accept) == 0 {
		bad("accept: name the TEEs to accept, for example [\"sev-snp\"]")
	}
	for i, k := range p.Accept {
		if _, err := tee.ParseKind(string(k)); err != nil {
			bad("accept[%d]: %v", i, err)
		}
	}
	if len(p.Measurements) == 0 && len(p.Signers) == 0 {
		bad("measurements or signers: name at least one, or write measurements [\"any\"]")
	}
	if len(p.TCB) == 0 {
		bad("tcb: name the acceptable statuses, or write [\"any\"]")
	}
	if p.CollateralGraceDays < 0 || p.CollateralGraceDays > MaxGraceDays {
		bad("collateral_grace_days: %d: want 0 to %d", p.CollateralGraceDays, MaxGraceDays)
	}
	p.validateLists(bad)
	p.validateRules(bad)
	if len(errs) > 0 {
		return fmt.Errorf("%w: %s", ErrPolicy, strings.Join(errs, "; "))
	}
	return nil
}

func (p Policy) validateLists(bad func(string, ...any)) {
	checkList(bad, "accept", p.Accept, func(tee.Kind) string { return "" })
	checkList(bad, "measurements", p.Measurements, func(s string) string {
		return hexLength(s, len(p.Measurements) == 1, 32, 48)
	})
	checkList(bad, "launch_digests", p.LaunchDigests, func(s string) string { return hexLength(s, false, 32) })
	checkList(bad, "signers", p.Signers, func(s SignerRule) string { return hexLength(s.Signer, false, 32) })
	checkList(bad, "tcb", p.TCB, func(s string) string {
		if s == Any && len(p.TCB) == 1 || slices.Contains(tee.TCBStatuses(), tee.TCBStatus(s)) {
			return ""
		}
		return fmt.Sprintf("want %q alone, or statuses of %v", Any, tee.TCBStatuses())
	})
	checkList(bad, "platforms", p.Platforms, func(s string) string {
		if isHex(s) && len(s) <= 256 {
			return ""
		}
		return "want the platform identity in hex"
	})
	checkList(bad, "refuse_findings", p.RefuseFindings, func(s string) string {
		if s == Any && len(p.RefuseFindings) > 1 {
			return "\"any\" stands alone"
		}
		if !validCode(s) {
			return "want a finding code"
		}
		return ""
	})
}

func (p Policy) validateRules(bad func(string, ...any)) {
	if len(p.Rules) > MaxRules {
		bad("rules: %d, at most %d", len(p.Rules), MaxRules)
		return
	}
	for i, r := range p.Rules {
		if !validName(r.Name) {
			bad("rules[%d].name: want 1 to %d letters, digits, spaces, '.', '_', '/', '-'", i, MaxName)
		}
		if r.Expr == "" || len(r.Expr) > MaxExpression {
			bad("rules[%d].expr: want 1 to %d bytes", i, MaxExpression)
		}
		if r.Code != "" && !validCode(string(r.Code)) {
			bad("rules[%d].code: want lower-case letters, digits and '_'", i)
		}
		if len(r.Hint) > 4*MaxName {
			bad("rules[%d].hint: %d bytes, at most %d", i, len(r.Hint), 4*MaxName)
		}
	}
}

// checkList reports a list that is too long, or its first entry that is wrong.
func checkList[T any](bad func(string, ...any), name string, l []T, wrong func(T) string) {
	if len(l) > MaxPolicyItems {
		bad("%s: %d entries, at most %d", name, len(l), MaxPolicyItems)
		return
	}
	for i, v := range l {
		if s := wrong(v); s != "" {
			bad("%s[%d]: %s", name, i, s)
			return
		}
	}
}

// hexLength says what is wrong with a hex value, or "".
func hexLength(s string, anyAllowed bool, lengths ...int) string {
	if anyAllowed && s == Any {
		return ""
	}
	b, err := hex.DecodeString(s)
	if err != nil || !slices.Contains(lengths, len(b)) {
		return fmt.Sprintf("want hex of %v bytes", lengths)
	}
	return ""
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && s != ""
}
