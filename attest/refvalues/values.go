package refvalues

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
)

// Bounds of a document. Beyond them it is refused.
const (
	MaxDocument   = 1 << 20 // bytes
	MaxEntries    = 1024
	MaxConditions = 64 // of one entry
	maxKeys       = 64
	maxText       = 1024
)

// ErrFormat is wrapped by every error of a reader, ErrNotTrusted by those that
// are about a signature, ErrApply by those of [Values.Apply].
var (
	ErrFormat     = errors.New("invalid reference values")
	ErrNotTrusted = errors.New("reference values are not signed by a trusted key")
	ErrApply      = errors.New("reference values do not fit the policy")
)

// Names of claims that have a place of their own in a policy.
const (
	claimMeasurement  = "measurement"
	claimLaunchDigest = "launch_digest"
	claimSigner       = "signer"
	claimProduct      = "product"
	claimSVN          = "svn"
	claimTCB          = "tcb_status"
	claimDebug        = "debug"
)

// Condition is what one claim must be: one of Equal, or at least Min.
type Condition struct {
	Claim string `json:"claim"` // path in the claims tree, such as "sev_snp.vmpl"
	// Equal are the acceptable values: string, uint64 or bool. Bytes are
	// lower-case hex, as in the tree.
	Equal []any   `json:"equal,omitempty"`
	Min   *uint64 `json:"min,omitempty"`
}

// Entry is one alternative: evidence of the TEE that meets every condition.
type Entry struct {
	TEE        tee.Kind    `json:"tee"`
	Conditions []Condition `json:"conditions"`
	// Source says where in the document the entry stands.
	Source string `json:"source"`
}

// Values are reference values: evidence is as expected if one of the entries
// fits. The zero value accepts nothing.
type Values struct {
	Entries []Entry `json:"entries"`
	// Skipped lists parts of the document that are about other things than the
	// code in a TEE that we know, and were not used.
	Skipped []string `json:"skipped,omitempty"`
}

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, a...))
}

func (e *Entry) add(c Condition) { e.Conditions = append(e.Conditions, c) }

func (e *Entry) equal(claim string, v ...any) { e.add(Condition{Claim: claim, Equal: v}) }

func (e *Entry) atLeast(claim string, n uint64) { e.add(Condition{Claim: claim, Min: &n}) }

// values returns the texts that a claim may have, and whether the entry says so.
func (e *Entry) values(claim string) ([]string, bool) {
	var out []string
	found := false
	for _, c := range e.Conditions {
		if c.Claim != claim || len(c.Equal) == 0 {
			continue
		}
		var these []string
		for _, v := range c.Equal {
			s, ok := v.(string)
			if !ok {
				return nil, false
			}
			these = append(these, s)
		}
		if found { // two conditions on one claim: what both allow
			these = slices.DeleteFunc(these, func(s string) bool { return !slices.Contains(out, s) })
		}
		out, found = these, true
	}
	return out, found
}

// number returns what a claim must be, or be at least.
func (e *Entry) number(claim string) (n uint64, exact, found bool) {
	for _, c := range e.Conditions {
		if c.Claim != claim {
			continue
		}
		if c.Min != nil {
			n, found = max(n, *c.Min), true
		}
		if len(c.Equal) == 1 {
			if v, ok := c.Equal[0].(uint64); ok {
				return v, true, true
			}
		}
	}
	return n, false, found
}

// check refuses an entry that a reader should not have made.
func (e *Entry) check() error {
	if _, err := tee.ParseKind(string(e.TEE)); err != nil {
		return malformed("%s: %v", e.Source, err)
	}
	if len(e.Conditions) == 0 || len(e.Conditions) > MaxConditions {
		return malformed("%s: %d conditions, want 1 to %d", e.Source, len(e.Conditions), MaxConditions)
	}
	for _, c := range e.Conditions {
		if (len(c.Equal) > 0) == (c.Min != nil) || len(c.Equal) > MaxEntries {
			return malformed("%s: %s needs values or a minimum", e.Source, c.Claim)
		}
	}
	return nil
}

// finish checks what a reader made.
func (v Values) finish() (Values, error) {
	if len(v.Entries) == 0 {
		return Values{}, malformed("nothing in it is about code in a TEE that is known here%s", skippedHint(v.Skipped))
	}
	if len(v.Entries) > MaxEntries {
		return Values{}, malformed("%d entries, at most %d", len(v.Entries), MaxEntries)
	}
	for i := range v.Entries {
		if err := v.Entries[i].check(); err != nil {
			return Values{}, err
		}
	}
	return v, nil
}

func skippedHint(skipped []string) string {
	if len(skipped) == 0 {
		return ""
	}
	return " (" + term.Clean(strings.Join(skipped, "; "), 200) + ")"
}

// checkDigest refuses what a policy's list of digests would refuse.
func checkDigest(s string, sizes ...int) error {
	b, err := hex.DecodeString(s)
	if err != nil || !slices.Contains(sizes, len(b)) || s != strings.ToLower(s) {
		return malformed("want lower-case hex of %v bytes", sizes)
	}
	return nil
}

// Kinds returns the TEEs of the entries, sorted.
func (v Values) Kinds() []tee.Kind {
	var out []tee.Kind
	for _, e := range v.Entries {
		out = append(out, e.TEE)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
