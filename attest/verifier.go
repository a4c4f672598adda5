package attest

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds on the certificates that travel with evidence. The attester chooses
// them, so they are checked before any verifier sees them.
const (
	MaxCertificates = 16       // certificates beside one evidence
	MaxCertificate  = 16 << 10 // bytes of one of them
)

// Binding says what the report data of the evidence must be. The zero value is
// refused; use [BindTo], [BindToShort], [BindBy] or, knowing its hazard,
// [WithoutFreshness].
type Binding struct {
	mode bindingMode
	want func(tee.Claims) []byte
}

type bindingMode uint8

const (
	bindNothingSaid bindingMode = iota
	bindExact
	bindUnchecked
)

// BindTo requires exactly this report data, usually the result of [tee.Bind]
// over a fresh nonce and the key that the evidence is to vouch for.
func BindTo(reportData [64]byte) Binding {
	return BindBy(func(tee.Claims) [64]byte { return reportData })
}

// BindBy requires the report data that want makes of the verified claims, for
// bindings that cover a claim, such as the launch digest, beside the nonce.
func BindBy(want func(tee.Claims) [64]byte) Binding {
	if want == nil {
		return Binding{}
	}
	return Binding{mode: bindExact, want: func(c tee.Claims) []byte {
		d := want(c)
		return d[:]
	}}
}

// BindToShort requires exactly this report data, of 32 to 64 bytes, from a TEE
// whose report data has no fixed size: what a TPM quotes is as long as its guest
// made it. Others have 64 bytes and no less.
func BindToShort(reportData []byte) Binding {
	if len(reportData) < 32 || len(reportData) > 64 {
		return Binding{}
	}
	want := slices.Clone(reportData)
	return Binding{mode: bindExact, want: func(tee.Claims) []byte { return want }}
}

// WithoutFreshness accepts any report data. Hazard: the evidence may be a
// recording, and may come from somebody else than the peer at hand. It is for
// looking at evidence, never for handing over a secret; the result carries the
// finding [FindingBindingUnchecked].
func WithoutFreshness() Binding { return Binding{mode: bindUnchecked} }

// Verified is what a [Verifier] proved. It says nothing about whether that is
// acceptable: give it to an [Appraiser].
type Verified struct {
	Claims   tee.Claims
	Findings []tee.Finding
	// EvidenceDigest and EndorsementsDigest name the inputs of the verdict, see
	// [DigestEvidence] and [DigestEndorsements].
	EvidenceDigest     [32]byte
	EndorsementsDigest [32]byte
	// At is the time that certificates and lists were checked at.
	At time.Time
	// Evidence, with its kind, and Input are what the verdict rests on, for who writes
	// it down (package attest/record). They are not to be changed.
	Evidence tee.Evidence
	Input    tee.Input
}

// Verifier verifies the evidence of several TEEs. It is immutable and safe for
// concurrent use. The zero value knows no TEE and refuses everything.
type Verifier struct {
	byKind map[tee.Kind]tee.Verifier
	order  []tee.Verifier
}

// NewVerifier returns a verifier for the TEEs of vs. Unlabelled evidence is
// offered to them in this order; of two for the same kind the first counts.
func NewVerifier(vs ...tee.Verifier) *Verifier {
	v := &Verifier{byKind: make(map[tee.Kind]tee.Verifier, len(vs))}
	for _, t := range vs {
		if _, taken := v.byKind[t.Kind()]; !taken {
			v.byKind[t.Kind()] = t
			v.order = append(v.order, t)
		}
	}
	return v
}

// Kinds returns the TEEs that v can verify, in order.
func (v *Verifier) Kinds() []tee.Kind {
	if v == nil {
		return nil
	}
	kinds := make([]tee.Kind, len(v.order))
	for i, t := range v.order {
		kinds[i] = t.Kind()
	}
	return kinds
}

// Verify proves the claims of ev at the time in.At and that its report data is
// the wanted one. An empty ev.Kind is detected from the bytes. The error is a
// [*tee.VerifyError] and lists every check that failed.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input, want Binding) (*Verified, error) {
	if want.mode == bindNothingSaid {
		return nil, tee.Refuse(ev.Kind, tee.CodeBinding, "report_data", "a binding to compare with", "none",
			"say which report data the evidence must carry")
	}
	if err := bounded(ev); err != nil {
		return nil, err
	}
	if in.At.IsZero() {
		return nil, tee.Refuse(ev.Kind, tee.CodeTime, "at", "a time to verify at", "none", "pass the current time")
	}
	t, err := v.pick(ev)
	if err != nil {
		return nil, err
	}
	ev.Kind = t.Kind()
	claims, findings, err := t.Verify(ev, in)
	if err != nil {
		return nil, err
	}
	if claims.TEE != ev.Kind {
		return nil, tee.Refuse(ev.Kind, tee.CodeUnsupported, "tee", string(ev.Kind), string(claims.TEE), "defect of the verifier: report it")
	}
	findings, err = want.check(claims, findings)
	if err != nil {
		return nil, err
	}
	return &Verified{
		Claims: claims, Findings: findings, At: in.At,
		EvidenceDigest: DigestEvidence(ev), EndorsementsDigest: DigestEndorsements(in), Evidence: ev, Input: in,
	}, nil
}

// pick returns the verifier for the evidence's kind, detecting it if need be.
func (v *Verifier) pick(ev tee.Evidence) (tee.Verifier, error) {
	if v == nil {
		v = &Verifier{}
	}
	if ev.Kind != "" {
		if t, ok := v.byKind[ev.Kind]; ok {
			return t, nil
		}
		return nil, tee.Refuse(ev.Kind, tee.CodeUnsupported, "tee", fmt.Sprint(v.Kinds()), string(ev.Kind), "this build has no verifier for that TEE")
	}
	for _, t := range v.order {
		if t.Detect(ev.Data) {
			return t, nil
		}
	}
	return nil, tee.Refuse("", tee.CodeUnknownFormat, "tee", fmt.Sprint("evidence of one of ", v.Kinds()), fmt.Sprintf("%d unknown bytes", len(ev.Data)),
		"pass the bytes exactly as the TEE gave them")
}

// KindOf returns which TEE evidence is of: the one that it names, or else the one
// that its bytes look like; empty when this verifier knows none. It proves
// nothing.
func (v *Verifier) KindOf(ev tee.Evidence) tee.Kind {
	t, err := v.pick(ev)
	if err != nil {
		return ev.Kind
	}
	return t.Kind()
}

// check compares the report data in constant time.
func (b Binding) check(c tee.Claims, findings []tee.Finding) ([]tee.Finding, error) {
	if b.mode == bindUnchecked {
		return append(slices.Clip(findings), tee.Finding{Code: FindingBindingUnchecked,
			Detail: "report data was not compared: the evidence may be a recording"}), nil
	}
	want := b.want(c)
	if subtle.ConstantTimeCompare(c.ReportData, want) != 1 {
		return nil, tee.Refuse(c.TEE, tee.CodeBinding, "report_data", hex.EncodeToString(want), hex.EncodeToString(c.ReportData),
			"the evidence answers another nonce, or vouches for another key")
	}
	return findings, nil
}

func bounded(ev tee.Evidence) error {
	if len(ev.Data) > tee.MaxEvidence {
		return tee.Refuse(ev.Kind, tee.CodeParse, "evidence", fmt.Sprintf("at most %d bytes", tee.MaxEvidence), fmt.Sprintf("%d bytes", len(ev.Data)), "")
	}
	if len(ev.EventLog) > tee.MaxEventLog {
		return tee.Refuse(ev.Kind, tee.CodeParse, "event log", fmt.Sprintf("at most %d bytes", tee.MaxEventLog), fmt.Sprintf("%d bytes", len(ev.EventLog)), "")
	}
	if len(ev.Certificates) > MaxCertificates {
		return tee.Refuse(ev.Kind, tee.CodeParse, "certificates", fmt.Sprintf("at most %d", MaxCertificates), fmt.Sprint(len(ev.Certificates)), "")
	}
	for _, c := range ev.Certificates {
		if len(c) > MaxCertificate {
			return tee.Refuse(ev.Kind, tee.CodeParse, "certificates", fmt.Sprintf("at most %d bytes each", MaxCertificate), fmt.Sprintf("%d bytes", len(c)), "")
		}
	}
	return nil
}
