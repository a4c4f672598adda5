package snp

import "github.com/cloister-cc/cloister/tee"

const maxCertificates = 16

// Verifier verifies evidence of SEV-SNP.
type Verifier struct{}

// New returns a verifier.
func New() *Verifier { return &Verifier{} }

// Kind is tee.SNP.
func (v *Verifier) Kind() tee.Kind { return tee.SNP }

// Detect reports whether data looks like a report.
func (v *Verifier) Detect(data []byte) bool { _, err := ParseReport(data); return err == nil }

// Verify refuses everything: being written.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	return tee.Claims{}, nil, tee.Refuse(tee.SNP, tee.CodeUnsupported, "", "", "", "")
}

var _ tee.Verifier = (*Verifier)(nil)
