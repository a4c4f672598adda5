// Package problem is the error form of every HTTP face (RFC 9457): a stable
// code, what happened, what to do, and for refusals the list of failures. It
// never holds what the caller sent.
package problem

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// ContentType is the media type of a problem document.
const ContentType = "application/problem+json"

// TypePrefix starts the type URI of every problem; the code follows.
const TypePrefix = "https://cloister-cc.github.io/problems/"

// Problem is an error on the wire. It implements error, so that a client gets
// back what a server returned.
type Problem struct { //nolint:errname // RFC 9457 calls it a problem
	Type     string        `json:"type"`
	Title    string        `json:"title"`
	Status   int           `json:"status"`
	Detail   string        `json:"detail,omitempty"`
	Code     string        `json:"code"`
	Hint     string        `json:"hint,omitempty"`
	Failures []tee.Failure `json:"failures,omitempty"`
}

// Error returns the detail, or the title when there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// New returns a problem.
func New(status int, code, detail, hint string) *Problem {
	return &Problem{Type: TypePrefix + code, Title: http.StatusText(status), Status: status, Detail: detail, Code: code, Hint: hint}
}

// From turns an error into a problem: refusals by verification or appraisal
// keep their failures, coded errors their code; anything else is an internal
// error whose text stays on the server.
func From(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*attest.AppraisalError](err); ok {
		p := New(http.StatusForbidden, "refused", "the appraisal policy refuses this evidence", "")
		p.Failures = e.Failures
		return p
	}
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		p := New(http.StatusForbidden, "not_verified", "the evidence does not verify", "")
		p.Failures = e.Failures
		return p
	}
	if e, ok := errors.AsType[*attest.TokenError](err); ok {
		p := New(http.StatusForbidden, "token_refused", "the attestation result is refused", "")
		p.Failures = e.Failures
		return p
	}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		status := http.StatusServiceUnavailable
		if e.Code != tee.CodeUnavailable {
			status = http.StatusInternalServerError
		}
		return New(status, string(e.Code), e.Op, e.Hint)
	}
	return New(http.StatusInternalServerError, "internal", "", "see the server's log")
}

// Write sends err as a problem document.
func Write(w http.ResponseWriter, err error) {
	p := From(err)
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// maxProblem is the largest problem document that is read, in bytes.
const maxProblem = 256 << 10

// Read returns the problem in a response that is not a success.
func Read(r *http.Response) *Problem {
	var p Problem
	b, err := io.ReadAll(io.LimitReader(r.Body, maxProblem))
	if err != nil || json.Unmarshal(b, &p) != nil || p.Code == "" {
		return New(r.StatusCode, "http_status", "the server answered "+r.Status, "")
	}
	p.Status = r.StatusCode
	return &p
}
