package dcap

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds on Intel's documents, which the relying party gives.
const (
	maxDocuments = 64
	maxDocument  = 1 << 20 // bytes of one
)

// document is a parsed answer of Intel's Provisioning Certification Service:
// {"tcbInfo": …, "signature": …} or {"enclaveIdentity": …, "signature": …}. One
// of info and identity is set.
type document struct {
	id        digest // of the whole answer
	body      []byte // the exact text that is signed
	signature []byte
	info      *tcbInfo
	identity  *enclaveIdentity
	parseErr  error
}

// documents parses the collateral that is Intel's. Documents of other vendors
// have other members and are left alone.
func (v *Verifier) documents(in tee.Input) ([]*document, []tee.Failure) {
	if n := len(in.Endorsements.Collateral); n > maxDocuments {
		return nil, []tee.Failure{{Code: tee.CodeParse, Claim: "collateral", Want: fmt.Sprintf("at most %d documents", maxDocuments), Got: fmt.Sprint(n)}}
	}
	var out []*document
	var failures []tee.Failure
	for _, name := range slices.Sorted(maps.Keys(in.Endorsements.Collateral)) {
		d := v.document(in.Endorsements.Collateral[name])
		if d == nil {
			continue
		}
		if d.parseErr != nil {
			failures = append(failures, tee.Failure{Code: tee.CodeParse, Claim: fmt.Sprintf("%.64q", name), Want: "an answer of Intel's PCS", Got: fmt.Sprintf("%.200q", d.parseErr.Error())})
			continue
		}
		out = append(out, d)
	}
	return out, failures
}

func (v *Verifier) document(b []byte) *document {
	if len(b) > maxDocument {
		return nil
	}
	id := digest(sha256.Sum256(b))
	if d, ok := v.parsed.get(id); ok {
		return d
	}
	d := parseDocument(b)
	if d != nil {
		d.id = id
	}
	v.parsed.put(id, d)
	return d
}

// parseDocument returns nil for what is not Intel's.
func parseDocument(b []byte) *document {
	var outer struct {
		Info      json.RawMessage `json:"tcbInfo"`
		Identity  json.RawMessage `json:"enclaveIdentity"`
		Signature string          `json:"signature"`
	}
	if json.Unmarshal(b, &outer) != nil || outer.Info == nil && outer.Identity == nil {
		return nil
	}
	d := &document{}
	d.signature, d.parseErr = hex.DecodeString(outer.Signature)
	switch {
	case d.parseErr != nil || len(d.signature) != signatureSize:
		d.parseErr = errors.New("signature: want 64 bytes in hex")
	case outer.Info != nil && outer.Identity != nil:
		d.parseErr = errors.New("tcbInfo and enclaveIdentity in one answer")
	case outer.Info != nil:
		d.body = outer.Info
		d.info, d.parseErr = parseTCBInfo(d.body)
	default:
		d.body = outer.Identity
		d.identity, d.parseErr = parseIdentity(d.body)
	}
	return d
}

// signerOf returns the chain of the certificate that signed a document: one that
// a root issued itself, that is no authority and no platform's (QVL, "TCB
// Signing Chain"). Intel has given one key more than one certificate, so one
// that is valid at the time is preferred. Nil when none of those at hand signed.
func (v *Verifier) signerOf(d *document, given []*certificate, a *anchors, at time.Time) chain {
	var signer chain
	for _, list := range [][]*certificate{given, a.known} {
		for _, c := range list {
			if !v.signedBy(d, c) {
				continue
			}
			if signer = c.direct; len(signer.checkDates(at)) == 0 {
				return signer
			}
		}
	}
	return signer
}

func (v *Verifier) signedBy(d *document, c *certificate) bool {
	if c.direct == nil || c.isPlatform || c.x509.IsCA {
		return false
	}
	id := digestOf(d.id, c.id[:])
	if signed, ok := v.signatures.get(id); ok {
		return signed
	}
	signed := verifyRaw(c.direct.key(), d.body, d.signature)
	v.signatures.put(id, signed)
	return signed
}

// period is when a document holds.
type period struct {
	IssueDate  time.Time `json:"issueDate"`
	NextUpdate time.Time `json:"nextUpdate"`
}

func (p period) holds(in tee.Input) bool {
	holds, _ := in.Current(p.IssueDate, p.NextUpdate)
	return holds
}

// newer says which of two documents that hold is the better one.
func (p period) newer(o period) bool { return p.IssueDate.After(o.IssueDate) }
