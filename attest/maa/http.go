package maa

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
)

// MaxRequest bounds the body of a request in bytes.
const MaxRequest = 1 << 20

// Prefix is what the paths of all providers but the shared one start with.
const Prefix = "/azure/"

// apiVersions are the versions of Microsoft's specification whose requests are
// understood. Their differences are in what they can ask for, not in what the
// same request means.
func apiVersions() []string {
	return []string{"2018-09-01-preview", "2020-10-01", "2022-08-01", "2022-09-01-preview", "2023-04-01-preview", "2025-06-01", "2026-03-11-preview"}
}

// call is a request to a provider.
type call struct {
	*http.Request
	provider *provider
	// base is the URL of the provider as the client sees it, without a slash at
	// its end: the iss of tokens.
	base string
}

// ServeHTTP answers the requests of clients of Azure Attestation.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	w.Header().Set("x-ms-request-id", hex.EncodeToString(id))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	r.Body = http.MaxBytesReader(w, r.Body, MaxRequest)
	answer, err := s.answer(r)
	if err != nil {
		writeError(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *Service) answer(r *http.Request) (any, error) {
	name, path := Shared, r.URL.Path
	if rest, ok := strings.CutPrefix(path, Prefix); ok {
		name, path, _ = strings.Cut(rest, "/")
		path = "/" + path
		if name == Shared {
			return nil, notFound("the shared provider is at the root")
		}
	}
	p := s.find(name)
	if p == nil {
		return nil, notFound("there is no attestation provider of this name")
	}
	base := p.state.Issuer
	if base == "" {
		if !validHost(r.Host) {
			return nil, badRequest("the host name of the request is not one", "")
		}
		base = "https://" + r.Host + strings.TrimSuffix(pathOf(name), "/")
	}
	return s.route(call{r, p, base}, path)
}

func (s *Service) route(c call, path string) (any, error) {
	switch path {
	case "/certs":
		return only(c, http.MethodGet, s.certs)
	case "/.well-known/openid-configuration":
		return only(c, http.MethodGet, s.discovery)
	}
	if v := c.URL.Query().Get("api-version"); !slices.Contains(apiVersions(), v) {
		return nil, &serviceError{status: http.StatusBadRequest, Code: "InvalidApiVersionParameter",
			Message: "api-version: want one of " + strings.Join(apiVersions(), ", ")}
	}
	switch path {
	case "/certificates":
		return only(c, http.MethodGet, s.certificates)
	case "/certificates:add":
		return only(c, http.MethodPost, s.addCertificate)
	case "/certificates:remove":
		return only(c, http.MethodPost, s.removeCertificate)
	}
	if typ, ok := strings.CutPrefix(path, "/attest/"); ok {
		return only(c, http.MethodPost, func(c call) (any, error) { return s.attest(c, typ) })
	}
	if typ, ok := strings.CutPrefix(path, "/tcbbaselines/"); ok {
		return only(c, http.MethodGet, func(c call) (any, error) { return s.baselines(c, typ) })
	}
	if typ, ok := strings.CutPrefix(path, "/policies/"); ok {
		if typ, ok := strings.CutSuffix(typ, ":reset"); ok {
			return only(c, http.MethodPost, func(c call) (any, error) { return s.resetPolicy(c, typ) })
		}
		if c.Method == http.MethodPut {
			return s.setPolicy(c, typ)
		}
		return only(c, http.MethodGet, func(c call) (any, error) { return s.getPolicy(c, typ) })
	}
	return nil, notFound("there is nothing at this path")
}

func only(c call, method string, f func(call) (any, error)) (any, error) {
	if c.Method != method {
		return nil, &serviceError{status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Message: "want " + method}
	}
	return f(c)
}

// validHost reports whether s is a host name or address, with or without a port.
func validHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-:[]", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= maxIssuer
}

func body(c call) ([]byte, error) {
	var b bytes.Buffer
	if c.ContentLength > 0 {
		b.Grow(int(min(c.ContentLength, MaxRequest)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(c.Body); err != nil {
		return nil, &serviceError{status: http.StatusRequestEntityTooLarge, Code: "RequestTooLarge", Message: fmt.Sprintf("the body cannot be read, or has more than %d bytes", MaxRequest)}
	}
	return b.Bytes(), nil
}

// certs is the key set (RFC 7517) that tokens of the provider are verified with.
func (s *Service) certs(c call) (any, error) {
	return map[string]any{"keys": c.provider.published(s.cfg.Now())}, nil
}

// discovery is the metadata of OpenID Connect Discovery 1.0 section 3, as far as
// Microsoft's service gives it.
func (s *Service) discovery(c call) (any, error) {
	return map[string]any{
		"issuer": c.base, "jwks_uri": c.base + "/certs",
		"response_types_supported":              []string{"token", "none"},
		"id_token_signing_alg_values_supported": []string{c.provider.state.Algorithm},
		"claims_supported": []string{
			"iss", "iat", "nbf", "exp", "jti", "nonce", "x-ms-ver", "x-ms-attestation-type", "x-ms-policy", "x-ms-policy-hash", "x-ms-policy-signer",
			"x-ms-runtime", "x-ms-inittime", "x-ms-sgx-is-debuggable", "x-ms-sgx-product-id", "x-ms-sgx-mrenclave", "x-ms-sgx-mrsigner", "x-ms-sgx-svn",
			"x-ms-sgx-ehd", "x-ms-sgx-collateral",
		},
	}, nil
}

// serviceError is an error in the form of Microsoft's services. It never holds
// what the caller sent.
type serviceError struct {
	status   int
	retry    string        // Retry-After, seconds
	Code     string        `json:"code"`
	Message  string        `json:"message"`
	Failures []tee.Failure `json:"failures,omitempty"`
}

func (e *serviceError) Error() string { return e.Code + ": " + e.Message }

func badRequest(message, hint string) error {
	if hint != "" {
		message += "; " + hint
	}
	return &serviceError{status: http.StatusBadRequest, Code: "InvalidParameter", Message: message}
}

func notFound(message string) error {
	return &serviceError{status: http.StatusNotFound, Code: "NotFound", Message: message}
}

func writeError(w http.ResponseWriter, err error) {
	e := asServiceError(err)
	if e.retry != "" {
		w.Header().Set("Retry-After", e.retry)
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="cloister attestation provider"`)
	}
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": e})
}

// asServiceError gives an error its status and code. Of an error that it does not
// know the text stays inside.
func asServiceError(err error) *serviceError {
	if e, ok := errors.AsType[*serviceError](err); ok {
		return e
	}
	if failures := attest.Failures(err); len(failures) > 0 {
		return refusal(err, failures)
	}
	var syntax *azurepolicy.SyntaxError
	switch {
	case errors.As(err, &syntax), errors.Is(err, azurepolicy.ErrEnvelope), errors.Is(err, ErrInvalid):
		return &serviceError{status: http.StatusBadRequest, Code: "InvalidParameter", Message: err.Error()}
	case errors.Is(err, ErrNoIdentity):
		return &serviceError{status: http.StatusUnauthorized, Code: "Unauthorized", Message: "changes need the access token of the provider's owner: cloister attest provider token"}
	case errors.Is(err, ErrNotFound):
		return &serviceError{status: http.StatusForbidden, Code: "Forbidden", Message: "only the provider's owner can change it"}
	}
	return &serviceError{status: http.StatusInternalServerError, Code: "InternalError", Message: "see the node's log"}
}

// refusal is the error of evidence that is not accepted.
func refusal(err error, failures []tee.Failure) *serviceError {
	e := &serviceError{status: http.StatusBadRequest, Code: "AttestationFailed", Failures: failures}
	texts := make([]string, len(failures))
	for i, f := range failures {
		texts[i] = f.String()
		if f.Hint != "" {
			texts[i] += " (" + f.Hint + ")"
		}
	}
	e.Message = strings.Join(texts, "; ")
	if _, ok := errors.AsType[*attest.AppraisalError](err); ok {
		e.Code = "PolicyEvaluationError"
	}
	for _, f := range failures {
		if f.Code == tee.CodeCollateralMissing || f.Code == tee.CodeCollateralExpired || f.Code == tee.CodeFMSPC {
			// It may be on its way: clients ask again by themselves.
			e.status, e.Code, e.retry = http.StatusServiceUnavailable, "CollateralUnavailable", "2"
		}
	}
	return e
}
