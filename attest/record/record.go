package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// Case is everything that a verdict depends on.
type Case struct {
	Evidence tee.Evidence
	Input    tee.Input
	// Policy is nil when none was asked: what verifies is then accepted, which
	// proves that it is genuine and nothing else.
	Policy *attest.Policy
	// ReportData is what the evidence had to carry, 64 bytes; nil: it was not
	// compared, and the verdict has the finding binding_unchecked.
	ReportData []byte
}

// Record is a verdict and the digests of what it came from. Its JSON is
// canonical: the same case gives the same bytes. Hints are not in it, for they
// are for people and get better.
type Record struct {
	Version int `json:"version"` // 1
	// Evidence, Endorsements and Policy are SHA-256 digests in hex, see
	// attest.DigestEvidence, attest.DigestEndorsements and attest.Policy.Digest;
	// Policy is empty when none was asked.
	Evidence     string         `json:"evidence"`
	Endorsements string         `json:"endorsements"`
	Policy       string         `json:"policy"`
	ReportData   string         `json:"report_data"` // hex; empty when it was not compared
	At           time.Time      `json:"at"`
	TEE          tee.Kind       `json:"tee"`
	Verified     bool           `json:"verified"`
	Accepted     bool           `json:"accepted"`
	TCB          tee.TCBStatus  `json:"tcb_status"`
	Findings     []tee.Finding  `json:"findings"`
	Failures     []Failure      `json:"failures"`
	Claims       map[string]any `json:"claims"`
	// TokenID is the jti of the attestation result that was issued for it, if any.
	TokenID string `json:"token_id"`
}

// Failure is a tee.Failure without its hint.
type Failure struct {
	Code  tee.Code `json:"code"`
	Claim string   `json:"claim"`
	Want  string   `json:"want"`
	Got   string   `json:"got"`
}

const version = 1

// Judge verifies and appraises a case, and writes down what came out. The second
// result has the hints; the third is what was proven, nil if nothing was.
func Judge(v *attest.Verifier, c Case) (Record, []tee.Failure, *attest.Verified) {
	c.Evidence.Kind = v.KindOf(c.Evidence)
	r := Record{
		Version: version, At: c.Input.At.UTC(), TEE: c.Evidence.Kind, Findings: []tee.Finding{}, Failures: []Failure{}, Claims: map[string]any{},
		ReportData: hex.EncodeToString(c.ReportData),
	}
	evidence, endorsements := attest.DigestEvidence(c.Evidence), attest.DigestEndorsements(c.Input)
	r.Evidence, r.Endorsements = hex.EncodeToString(evidence[:]), hex.EncodeToString(endorsements[:])
	if c.Policy != nil {
		digest := c.Policy.Digest()
		r.Policy = hex.EncodeToString(digest[:])
	}
	verified, failures := judge(v, c, compile(c.Policy))
	if verified != nil {
		r.prove(verified)
	}
	r.Accepted, r.Failures = len(failures) == 0, withoutHints(failures)
	return r, failures, verified
}

// prove adds what was proven.
func (r *Record) prove(v *attest.Verified) {
	r.Verified, r.TEE, r.TCB, r.Claims = true, v.Claims.TEE, v.Claims.TCB, v.Claims.Tree()
	r.Findings = append(r.Findings, v.Findings...)
}

// Accepted writes down a verdict that was reached elsewhere: evidence that verified
// as v says, and that policy accepts; nil for no policy. tokenID is the jti of the
// attestation result, if one was issued. [Judge] makes the same of the case.
func Accepted(v *attest.Verified, policy *attest.Policy, tokenID string) (Case, Record) {
	c := Case{Evidence: v.Evidence, Input: v.Input, Policy: policy}
	unchecked := func(f tee.Finding) bool { return f.Code == attest.FindingBindingUnchecked }
	if !slices.ContainsFunc(v.Findings, unchecked) {
		c.ReportData = v.Claims.ReportData
	}
	r := Record{
		Version: version, At: v.At.UTC(), Accepted: true, Findings: []tee.Finding{}, Failures: []Failure{}, TokenID: tokenID,
		Evidence: hex.EncodeToString(v.EvidenceDigest[:]), Endorsements: hex.EncodeToString(v.EndorsementsDigest[:]), ReportData: hex.EncodeToString(c.ReportData),
	}
	if policy != nil {
		digest := policy.Digest()
		r.Policy = hex.EncodeToString(digest[:])
	}
	r.prove(v)
	return c, r
}

// judge verifies and appraises a case whose evidence says which TEE it is of. The
// first result is what was proven, nil if nothing was; there are failures unless
// the case is accepted.
func judge(v *attest.Verifier, c Case, p compiled) (*attest.Verified, []tee.Failure) {
	if c.Policy != nil {
		c.Input.Grace = c.Policy.Grace()
	}
	verified, err := v.Verify(c.Evidence, c.Input, c.Binding())
	if err == nil {
		err = p.appraise(verified)
	}
	failures := attest.Failures(err)
	if err != nil && len(failures) == 0 {
		failures = []tee.Failure{{Code: attest.CodePolicyInvalid, Claim: "policy", Got: fmt.Sprintf("%.300s", err.Error())}}
	}
	return verified, failures
}

func withoutHints(failures []tee.Failure) []Failure {
	out := make([]Failure, 0, len(failures))
	for _, f := range failures {
		out = append(out, Failure{Code: f.Code, Claim: f.Claim, Want: f.Want, Got: f.Got})
	}
	return out
}

// compiled is a policy that is ready to be asked, or why it never will be. The zero
// value is no policy, which accepts what verifies.
type compiled struct {
	appraiser *attest.Appraiser
	err       error
}

func compile(p *attest.Policy) compiled {
	if p == nil {
		return compiled{}
	}
	a, err := attest.Compile(*p)
	return compiled{a, err}
}

func (p compiled) appraise(v *attest.Verified) error {
	if p.err != nil || p.appraiser == nil {
		return p.err
	}
	return p.appraiser.Appraise(v)
}

// Binding is what the report data has to be.
func (c Case) Binding() attest.Binding {
	if c.ReportData == nil {
		return attest.WithoutFreshness()
	}
	var want [64]byte
	if copy(want[:], c.ReportData) != len(c.ReportData) || len(c.ReportData) != len(want) {
		return attest.Binding{} // refused
	}
	return attest.BindTo(want)
}

// Bytes is the canonical form.
func (r Record) Bytes() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(b, '\n'), nil
}

// digestOf names a record by the SHA-256 of its canonical form.
func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
