package record

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// inputs is how endorsements and roots are kept.
type inputs struct {
	Certificates [][]byte          `json:"certificates"`
	CRLs         [][]byte          `json:"crls"`
	Collateral   map[string][]byte `json:"collateral"`
	// Roots are DER; Embedded says that the vendors' own were used.
	Embedded bool     `json:"embedded_roots"`
	Roots    [][]byte `json:"roots"`
}

// Case returns what a record was made from. Every part is compared with the
// digest that the record names it by.
func (a *Archive) Case(r Record) (Case, error) {
	c, err := a.given(question{r.Evidence, r.Endorsements, r.Policy, r.ReportData, r.Request}, a.policy)
	if err != nil {
		return Case{}, err
	}
	if c.Input, err = a.endorsements(r.Endorsements); err != nil {
		return Case{}, err
	}
	c.Input.At = r.At
	return c, nil
}

// given returns the case of a question but for its input. Policies are had of
// policy, where no provider decides.
func (a *Archive) given(q question, policy func(name string) (*attest.Policy, error)) (c Case, err error) {
	if q.request != "" {
		c.Evidence, c.Provider, err = a.provider(q)
		return c, err
	}
	if c.Evidence, err = a.evidence(q.evidence); err != nil {
		return Case{}, err
	}
	if c.Policy, err = policy(q.policy); err != nil {
		return Case{}, err
	}
	c.ReportData, err = readReportData(q.reportData)
	return c, err
}

// provider returns a provider's policy and request, and the evidence in it.
func (a *Archive) provider(q question) (tee.Evidence, *Provider, error) {
	refuse := func(err error) (tee.Evidence, *Provider, error) { return tee.Evidence{}, nil, err }
	if a.read == nil {
		return refuse(fmt.Errorf("%w: this is a record of an attestation provider: open the archive with a reader of those", ErrArchive))
	}
	policy, err := a.readFile(policies, q.policy)
	if err == nil {
		err = isNamed("policy", q.policy, sha256.Sum256(policy))
	}
	if err != nil {
		return refuse(err)
	}
	request, err := a.find(aRequest, q.request)
	if err == nil {
		err = isNamed("request", q.request, sha256.Sum256(request))
	}
	if err != nil {
		return refuse(err)
	}
	ev, p, err := a.read(policy, request)
	if err != nil {
		return refuse(fmt.Errorf("%w: request %.64q: %w", ErrArchive, q.request, err))
	}
	return ev, p, isNamed("evidence", q.evidence, attest.DigestEvidence(ev))
}

// isNamed refuses what has another digest than its name.
func isNamed(what, name string, d [32]byte) error {
	if hex.EncodeToString(d[:]) != name {
		return fmt.Errorf("%w: %s %.64q was altered", ErrArchive, what, name)
	}
	return nil
}

// evidence returns evidence from a segment, or from a file of its own.
func (a *Archive) evidence(name string) (tee.Evidence, error) {
	var ev tee.Evidence
	b, err := a.find(anEvidence, name)
	switch {
	case err == nil:
		if ev, err = attest.DecodeEvidence(b); err != nil {
			return tee.Evidence{}, fmt.Errorf("%w: evidence %.64q was altered: %w", ErrArchive, name, err)
		}
	case !Missing(err):
		return tee.Evidence{}, err
	default:
		if plain := a.readJSON(evidence, name, &ev); Missing(plain) {
			return tee.Evidence{}, err
		} else if plain != nil {
			return tee.Evidence{}, plain
		}
	}
	return ev, isNamed("evidence", name, attest.DigestEvidence(ev))
}

// endorsements returns endorsements and roots, without a time.
func (a *Archive) endorsements(name string) (tee.Input, error) {
	var kept inputs
	if err := a.readJSON(endorsements, name, &kept); err != nil {
		return tee.Input{}, err
	}
	in := tee.Input{Endorsements: tee.Endorsements{Certificates: kept.Certificates, CRLs: kept.CRLs, Collateral: kept.Collateral}}
	altered := fmt.Errorf("%w: endorsements %.64q were altered", ErrArchive, name)
	if kept.Embedded && len(kept.Roots) > 0 {
		return tee.Input{}, altered
	}
	if !kept.Embedded {
		in.Roots = tee.Roots{}
	}
	for _, der := range kept.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return tee.Input{}, altered
		}
		in.Roots = append(in.Roots, root)
	}
	return in, isNamed("endorsements", name, attest.DigestEndorsements(in))
}

// policy returns a policy; nil for no name.
func (a *Archive) policy(name string) (*attest.Policy, error) {
	if name == "" {
		return nil, nil
	}
	p := &attest.Policy{}
	if err := a.readJSON(policies, name, p); err != nil {
		return nil, err
	}
	return p, isNamed("policy", name, p.Digest())
}

// readReportData reads what the evidence had to carry; nil for nothing.
func readReportData(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: report data is not hex", ErrArchive)
	}
	return b, nil
}
