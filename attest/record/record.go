package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	// ReportData is what the evidence had to carry, 64 bytes, or 32 to 64 of a TPM;
	// nil: it was not compared, and the verdict has the finding binding_unchecked.
	ReportData []byte
	// Provider decides in place of Policy and ReportData, which are nil then.
	Provider *Provider
}

// Provider is an attestation provider that was asked about evidence: it has a policy
// in a language of its own, and its requests have more in them than evidence.
type Provider struct {
	// Policy and Request are what an archive keeps, and all that the rest comes from:
	// which policy it was, as JSON, and what was asked, with the evidence in it.
	Policy, Request []byte
	// Grace and Binding are what evidence is verified with.
	Grace   time.Duration
	Binding attest.Binding
	// Appraise asks the policy.
	Appraise func(*attest.Verified) error
}

// ProviderReader reads a provider's policy and request, as [Provider] has them, and
// returns the evidence in the request, with its kind. Package attest/maa has one.
type ProviderReader func(policy, request []byte) (tee.Evidence, *Provider, error)

// Record is a verdict and the digests of what it came from. Its JSON is
// canonical: the same case gives the same bytes. Hints are not in it, for they
// are for people and get better.
type Record struct {
	Version int `json:"version"` // 1
	// Evidence, Endorsements and Policy are SHA-256 digests in hex, see
	// attest.DigestEvidence, attest.DigestEndorsements and attest.Policy.Digest;
	// Policy is empty when none was asked.
	Evidence     string `json:"evidence"`
	Endorsements string `json:"endorsements"`
	Policy       string `json:"policy"`
	// Request is the SHA-256 in hex of what an attestation provider was asked, and
	// Policy is then that of its policy; see [Provider].
	Request    string         `json:"request,omitempty"`
	ReportData string         `json:"report_data"` // hex; empty when it was not compared
	At         time.Time      `json:"at"`
	TEE        tee.Kind       `json:"tee"`
	Verified   bool           `json:"verified"`
	Accepted   bool           `json:"accepted"`
	TCB        tee.TCBStatus  `json:"tcb_status"`
	Findings   []tee.Finding  `json:"findings"`
	Failures   []Failure      `json:"failures"`
	Claims     map[string]any `json:"claims"`
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
	verified, err := judge(v, c, compile(c.Policy))
	return Of(c, verified, err), failuresOf(err), verified
}

// Of writes down a verdict that was reached elsewhere: v is what was proven of the
// evidence, nil if nothing was, and err why it was refused, nil if it was accepted.
// The evidence of the case has its kind. [Judge] makes the same of the case.
func Of(c Case, v *attest.Verified, err error) Record {
	r := Record{
		Version: version, At: c.Input.At.UTC(), TEE: c.Evidence.Kind, Findings: []tee.Finding{}, Claims: map[string]any{},
		ReportData: hex.EncodeToString(c.ReportData), Accepted: err == nil, Failures: withoutHints(failuresOf(err)),
	}
	var evidence, endorsements [32]byte
	if v != nil {
		r.Verified, r.TEE, r.TCB, r.Claims = true, v.Claims.TEE, v.Claims.TCB, v.Claims.Tree()
		r.Findings = append(r.Findings, v.Findings...)
		evidence, endorsements = v.EvidenceDigest, v.EndorsementsDigest
	} else {
		evidence, endorsements = attest.DigestEvidence(c.Evidence), attest.DigestEndorsements(c.Input)
	}
	r.Evidence, r.Endorsements = hex.EncodeToString(evidence[:]), hex.EncodeToString(endorsements[:])
	switch {
	case c.Provider != nil:
		r.Policy, r.Request = digestOf(c.Provider.Policy), digestOf(c.Provider.Request)
	case c.Policy != nil:
		digest := c.Policy.Digest()
		r.Policy = hex.EncodeToString(digest[:])
	}
	return r
}

// judge verifies and appraises a case whose evidence says which TEE it is of, with
// its policy compiled. The first result is what was proven, nil if nothing was.
func judge(v *attest.Verifier, c Case, p compiled) (*attest.Verified, error) {
	binding, appraise := c.Binding(), p.appraise
	switch {
	case c.Provider != nil:
		c.Input.Grace, binding, appraise = c.Provider.Grace, c.Provider.Binding, c.Provider.Appraise
	case c.Policy != nil:
		c.Input.Grace = c.Policy.Grace()
	}
	verified, err := v.Verify(c.Evidence, c.Input, binding)
	if err == nil {
		err = appraise(verified)
	}
	return verified, err
}

// failuresOf are the failures of a refusal: there is one at least.
func failuresOf(err error) []tee.Failure {
	failures := attest.Failures(err)
	if err != nil && len(failures) == 0 {
		failures = []tee.Failure{{Code: attest.CodePolicyInvalid, Claim: "policy", Got: fmt.Sprintf("%.300s", err.Error())}}
	}
	return failures
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

// Binding is what the report data has to be, where no provider decides.
func (c Case) Binding() attest.Binding {
	switch len(c.ReportData) {
	case 0:
		if c.ReportData != nil {
			return attest.Binding{} // refused
		}
		return attest.WithoutFreshness()
	case 64:
		return attest.BindTo([64]byte(c.ReportData))
	default:
		return attest.BindToShort(c.ReportData)
	}
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
