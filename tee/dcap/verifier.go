package dcap

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Result is what a quote proves about its platform.
type Result struct {
	Quote *Quote
	PCK   PCK
	// Enclave is the report of the quoting enclave that signed the quote.
	QuotingEnclave EnclaveReport
	// Status is tee.TCBUnknown when the collateral was not complete.
	Status     tee.TCBStatus
	Advisories []string // Intel's security advisories for this level, such as INTEL-SA-00615
	// LevelDate is the date of the platform's level, RFC 3339; empty when unknown.
	LevelDate string
	// EvaluationNumber is tcbEvaluationDataNumber of the TCB information, 0 when
	// there was none.
	EvaluationNumber int
	// ValidFrom and ValidUntil bound the time in which the collateral holds.
	ValidFrom, ValidUntil time.Time
	Findings              []tee.Finding

	platform map[string]any // claims of the PCK certificate
}

// Verifier verifies ECDSA quotes of SGX and TDX: the form, the chain from the
// PCK certificate to a root, revocation, the quoting enclave's report and
// identity, the attestation key's binding to it, the quote's signature, and how
// current the platform is.
//
// It is pure and safe for concurrent use; the zero value works. Certificates,
// lists and documents that verified are remembered, within bounds, which changes
// how long a verdict takes and never what it is.
type Verifier struct {
	once        sync.Once
	intel       *anchors
	embeddedErr error

	platforms    memo[*platform]
	certificates memo[*certificate]
	lists        memo[*list]
	parsed       memo[*document]
	signatures   memo[bool]
}

// verdict collects what is wrong and what should be known.
type verdict struct {
	failures []tee.Failure
	findings []tee.Finding
}

func (o *verdict) fail(code tee.Code, claim, want, got, hint string) {
	o.failures = append(o.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

// note adds a finding, once.
func (o *verdict) note(code tee.Code, detail string) {
	f := tee.Finding{Code: code, Detail: detail}
	if !slices.Contains(o.findings, f) {
		o.findings = append(o.findings, f)
	}
}

// missing notes collateral that is not there.
func (o *verdict) missing(detail string) { o.note(tee.CodeCollateralMissing, detail) }

// late notes collateral that only holds thanks to the grace that was given.
func (o *verdict) late(what string, until time.Time, in tee.Input) {
	if in.At.After(until) {
		o.note(tee.CodeCollateralExpired, what+" was to be replaced by "+stamp(until))
	}
}

// Verify returns what a quote of the given kind proves. The error is a
// *tee.VerifyError that lists everything that is wrong: CodeParse,
// CodeUnsupported, CodeUnknownFormat (another TEE's quote), CodeTime,
// CodeNoSGXExtension, CodeChain, CodeExpired, CodeRevoked, CodeSignature,
// CodeBinding (the attestation key is not the quoting enclave's),
// CodeTCBSignature, CodeFMSPC, CodeQEIdentity, CodeModuleIdentity,
// CodeTCBUnsupported, CodeCollateralExpired, CodeCollateralMissing (the quote
// brings no PCK certificate and none was given). Collateral that is missing
// otherwise is a finding of that code, and the status is Unknown.
func (v *Verifier) Verify(kind tee.Kind, ev tee.Evidence, in tee.Input) (*Result, error) {
	refuse := func(failures ...tee.Failure) (*Result, error) {
		return nil, &tee.VerifyError{Kind: kind, Failures: failures}
	}
	if in.At.IsZero() {
		return refuse(tee.Failure{Code: tee.CodeTime, Claim: "time", Want: "the time to verify at", Got: "none"})
	}
	q, failure := parseQuote(ev.Data)
	if failure != nil {
		return refuse(*failure)
	}
	if q.Kind != kind {
		return refuse(tee.Failure{Code: tee.CodeUnknownFormat, Claim: "tee", Want: string(kind), Got: string(q.Kind)})
	}
	a, err := v.anchorsOf(in.Roots)
	if err != nil {
		return refuse(tee.Failure{Code: tee.CodeChain, Claim: "roots", Want: "self-signed P-256 authorities", Got: err.Error()})
	}
	o := &verdict{}
	r := &Result{Quote: q, QuotingEnclave: ParseEnclaveReport(q.qeReport), Status: tee.TCBUnknown}
	p, failures := v.platform(q, ev, in, a)
	o.failures = append(o.failures, failures...)
	if p != nil {
		r.PCK, r.platform = p.pck, p.claims
		o.failures = append(o.failures, p.chain.checkDates(in.At)...)
	}
	checkSignatures(o, q, r, p)
	v.checkCollateral(o, r, p, ev, in, a)
	if q.Trailing > 0 {
		o.findings = append(o.findings, tee.Finding{Code: tee.CodeTrailing, Detail: fmt.Sprintf("%d bytes behind the quote are not signed and were ignored", q.Trailing)})
	}
	if len(o.failures) > 0 {
		return refuse(o.failures...)
	}
	r.Findings = o.findings
	return r, nil
}

// checkSignatures follows the signatures from the platform to the quote's body:
// the PCK signs the quoting enclave's report, the report names the attestation
// key, the attestation key signs the quote.
func checkSignatures(o *verdict, q *Quote, r *Result, p *platform) {
	if p != nil && !verifyRaw(p.chain.key(), q.qeReport, q.qeSignature) {
		o.fail(tee.CodeSignature, "quoting enclave report", "signed by the platform's PCK", "another signature", "the quote was altered after it was made")
	}
	if r.QuotingEnclave.Debug() {
		o.fail(tee.CodeQEIdentity, "quoting enclave", "not a debug enclave", "debug", "")
	}
	h := sha256.New()
	h.Write(q.attestationKey)
	h.Write(q.authData)
	var want [64]byte
	h.Sum(want[:0])
	if [64]byte(r.QuotingEnclave.ReportData) != want {
		o.fail(tee.CodeBinding, "attestation key", "the key that the quoting enclave's report names", "another", "the attestation key does not belong to the quoting enclave")
	}
	key, err := rawKey(q.attestationKey)
	if err != nil || !verifyRaw(key, q.signed, q.signature) {
		o.fail(tee.CodeSignature, "quote", "signed by the attestation key", "another signature", "the quote was altered after it was made")
	}
}

// checkCollateral checks revocation and Intel's documents and gives the platform
// its status.
func (v *Verifier) checkCollateral(o *verdict, r *Result, p *platform, ev tee.Evidence, in tee.Input, a *anchors) {
	lists, failures := v.parseLists(in)
	o.failures = append(o.failures, failures...)
	docs, failures := v.documents(in)
	o.failures = append(o.failures, failures...)
	if p == nil {
		return // whose collateral it would be is not known
	}
	for i, c := range p.chain[:len(p.chain)-1] {
		v.checkRevoked(o, c, p.chain[i+1], lists, in)
	}
	if len(docs) == 0 {
		o.missing("no TCB information and no identity of the quoting enclave were given")
		return
	}
	given, failures := v.given(ev, in, a)
	o.failures = append(o.failures, failures...)
	signed := v.signedDocuments(o, docs, given, lists, in, a)
	info, identity := pickInfo(o, signed, r, in), pickIdentity(o, signed, r, in)
	if info == nil || identity == nil {
		return // said why
	}
	level, failures := identity.check(r.QuotingEnclave)
	o.failures = append(o.failures, failures...)
	if level == nil {
		return
	}
	e, failure := info.evaluate(r.Quote, r.PCK, level)
	if failure != nil {
		o.failures = append(o.failures, *failure)
		return
	}
	r.Status, r.Advisories, r.LevelDate, r.EvaluationNumber = e.status, e.advisories, day(e.date), info.EvaluationNumber
	r.ValidFrom, r.ValidUntil = later(info.IssueDate, identity.IssueDate), earlier(info.NextUpdate, identity.NextUpdate)
}

// signedDocuments keeps the documents that Intel signed, and checks the signer.
// One that nobody signed is a failure even if another one would do.
func (v *Verifier) signedDocuments(o *verdict, docs []*document, given []*certificate, lists []*list, in tee.Input, a *anchors) []*document {
	var out []*document
	checked := map[string]bool{}
	for _, d := range docs {
		c := v.signerOf(d, given, a, in.At)
		if c == nil {
			o.fail(tee.CodeTCBSignature, d.kind(), "signed by a TCB signer under a trusted root", "no such signature", "fetch it again, with its issuer chain")
			continue
		}
		out = append(out, d)
		if id := string(c.leaf().Raw); !checked[id] {
			checked[id] = true
			o.failures = append(o.failures, c.checkDates(in.At)...)
			v.checkRevoked(o, c.leaf(), c[1], lists, in)
		}
	}
	return out
}

func (d *document) kind() string {
	if d.info != nil {
		return "TCB information"
	}
	return "quoting enclave identity"
}

// pickInfo is the newest TCB information for this platform that holds.
func pickInfo(o *verdict, docs []*document, r *Result, in tee.Input) *tcbInfo {
	var best, stale *tcbInfo
	var others []string
	for _, d := range docs {
		t := d.info
		switch {
		case t == nil || t.ID != idOf(r.Quote.Kind, "SGX", "TDX"):
		case t.FMSPC != r.PCK.FMSPC || t.PCEID != r.PCK.PCEID:
			others = append(others, fmt.Sprintf("%x", t.FMSPC))
		case !t.holds(in):
			stale = t
		case best == nil || t.newer(best.period):
			best = t
		}
	}
	switch {
	case best != nil:
		o.late("TCB information", best.NextUpdate, in)
	case stale != nil:
		o.fail(tee.CodeCollateralExpired, "TCB information", "current at "+stamp(in.At), "from "+stamp(stale.IssueDate)+" to "+stamp(stale.NextUpdate), "fetch it again")
	case len(others) > 0:
		o.fail(tee.CodeFMSPC, "TCB information", fmt.Sprintf("for FMSPC %x", r.PCK.FMSPC), fmt.Sprintf("for %.8v", others), "fetch the TCB information of this platform's FMSPC")
	default:
		o.missing("no TCB information for " + string(r.Quote.Kind) + " was given")
	}
	return best
}

// pickIdentity is the newest identity of the quoting enclave that holds.
func pickIdentity(o *verdict, docs []*document, r *Result, in tee.Input) *enclaveIdentity {
	var best, stale *enclaveIdentity
	for _, d := range docs {
		e := d.identity
		switch {
		case e == nil || e.ID != idOf(r.Quote.Kind, "QE", "TD_QE"):
		case !e.holds(in):
			stale = e
		case best == nil || e.newer(best.period):
			best = e
		}
	}
	switch {
	case best != nil:
		o.late("quoting enclave identity", best.NextUpdate, in)
	case stale != nil:
		o.fail(tee.CodeCollateralExpired, "quoting enclave identity", "current at "+stamp(in.At), "from "+stamp(stale.IssueDate)+" to "+stamp(stale.NextUpdate), "fetch it again")
	default:
		o.missing("no identity of the quoting enclave of " + string(r.Quote.Kind) + " was given")
	}
	return best
}

func idOf(k tee.Kind, sgx, tdx string) string {
	if k == tee.TDX {
		return tdx
	}
	return sgx
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
