package rcar

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// Problem types are Trustee's (kbs_attestation_protocol.md, "Error information"):
// names under an address that was never meant to be opened.
const (
	problemPrefix  = "https://github.com/confidential-containers/kbs/errors/"
	problemAttest  = "AttestationError"
	problemPolicy  = "PolicyDeny"
	problemPath    = "InvalidRequestPath"
	statusRefused  = http.StatusUnauthorized // the one that guests read the body of
	statusNotFound = http.StatusNotFound
)

// refusal is an answer that is no success. detail says what was wanted and never
// what was sent.
type refusal struct {
	status  int
	problem string
	detail  string
}

func (r refusal) Error() string { return r.detail }

func refuse(format string, a ...any) refusal {
	return refusal{status: statusRefused, problem: problemAttest, detail: fmt.Sprintf(format, a...)}
}

func notFound() refusal {
	return refusal{status: statusNotFound, problem: problemPath, detail: "want " + PathAuth + " or " + PathAttest}
}

// refusalOf says of an error of verification or of the policy no more than its
// codes: its text holds what the evidence says.
func refusalOf(err error) refusal {
	if r, ok := errors.AsType[refusal](err); ok {
		return r
	}
	codes := codesOf(err)
	switch {
	case errors.Is(err, attest.ErrRefused):
		return refusal{status: statusRefused, problem: problemPolicy, detail: "refused by policy" + codes}
	case errors.Is(err, tee.ErrNotVerified):
		return refuse("the evidence does not verify%s", codes)
	default:
		return refuse("the evidence could not be checked, or no token issued")
	}
}

func codesOf(err error) string {
	var texts []string
	for _, c := range attest.Codes(err) {
		texts = append(texts, string(c))
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, ", ")
}

func writeRefusal(w http.ResponseWriter, r refusal) {
	writeJSON(w, r.status, map[string]string{"type": problemPrefix + r.problem, "detail": r.detail})
}
