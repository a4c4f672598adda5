package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"syscall"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/akca"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/attest/cmw"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
)

// maxBody bounds a request in bytes.
const maxBody = 1 << 20

// routes is the node's API. Bodies and answers are JSON; errors are problem
// documents that never repeat what was sent.
func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err := f(r)
			if err != nil {
				problem.Write(w, keyProblem(err))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	handle("GET /livez", func(*http.Request) (any, error) { return struct{}{}, nil })
	handle("GET /.well-known/jwks.json", func(*http.Request) (any, error) { return s.jwks() })
	handle("GET /v1/identity", s.identity)
	handle("POST /v1/nonce", s.nonce)
	handle("POST /v1/attest", s.attest)
	handle("POST /v1/release", s.release)
	handle("GET /v1/keys", s.listKeys)
	handle("POST /v1/keys", s.putKey)
	handle("GET /v1/keys/{name...}", func(r *http.Request) (any, error) { return s.keys.Get(owner(r), r.PathValue("name")) })
	handle("POST /v1/rotate/{name...}", func(r *http.Request) (any, error) {
		return s.keys.Rotate(r.Context(), owner(r), r.PathValue("name"))
	})
	handle("PUT /v1/policies/{name...}", s.putPolicy)
	handle("GET /v1/receipts", s.receipts)
	handle("GET /v1/receipts/{number}", s.receipt)
	s.tpms.routes(handle)
	s.providerRoutes(mux, handle)
	return mux
}

// owner is who asks: the key of the client's certificate; nil without one.
func owner(r *http.Request) []byte {
	c := channel.FromContext(r.Context())
	if c == nil {
		return nil
	}
	return c.ClientIdentity()
}

// keyProblem gives the errors of package keys their status and code.
func keyProblem(err error) error {
	switch {
	case errors.Is(err, keys.ErrNotFound):
		return problem.New(http.StatusNotFound, "not_found", keys.ErrNotFound.Error(), "list yours: cloister key list")
	case errors.Is(err, keys.ErrExists):
		return problem.New(http.StatusConflict, "exists", keys.ErrExists.Error(), "choose another name, or rotate it")
	case errors.Is(err, maa.ErrNotFound):
		return problem.New(http.StatusNotFound, "not_found", maa.ErrNotFound.Error(), "list yours: cloister attest provider list")
	case errors.Is(err, maa.ErrExists):
		return problem.New(http.StatusConflict, "exists", maa.ErrExists.Error(), "choose another name")
	case errors.Is(err, maa.ErrInvalid):
		return problem.New(http.StatusBadRequest, "invalid", err.Error(), "")
	case errors.Is(err, keys.ErrNoIdentity), errors.Is(err, maa.ErrNoIdentity):
		return problem.New(http.StatusUnauthorized, "no_identity", keys.ErrNoIdentity.Error(), "use the cloister client, which makes one")
	case errors.Is(err, akca.ErrChallenge):
		return problem.New(http.StatusForbidden, "challenge", akca.ErrChallenge.Error(), "ask for a new challenge")
	case errors.Is(err, keys.ErrNonce):
		return problem.New(http.StatusForbidden, "nonce", keys.ErrNonce.Error(), "ask for a new nonce and make new evidence")
	case errors.Is(err, keys.ErrInvalid), errors.Is(err, attest.ErrPolicy):
		return problem.New(http.StatusBadRequest, "invalid", err.Error(), "")
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO) {
		return problem.New(http.StatusInsufficientStorage, compute.CodeDisk, "the node's disk refuses writes; whether this change was kept shows when the node is back", "free space in the data directory, then look and try again")
	}
	if e, ok := errors.AsType[*tee.Error](err); ok && e.Code == tee.CodeUnavailable && e.Hint == "" {
		return problem.New(http.StatusServiceUnavailable, string(e.Code), e.Error(), "is the disk full, or the TEE gone? try again in a moment; the node starts again by itself")
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.New(http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body is larger than %d bytes", maxBody), "")
	}
	return err
}

// decode reads the body strictly.
func decode(r *http.Request, into any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if err := attest.DecodeStrict(b, into); err != nil {
		return fmt.Errorf("%w: body: %w", keys.ErrInvalid, err)
	}
	return nil
}

func (s *service) nonce(*http.Request) (any, error) {
	n, err := s.keys.Nonce()
	return client.Nonce{Nonce: n}, err
}

func (s *service) release(r *http.Request) (any, error) {
	var req keys.ReleaseRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	return s.keys.Release(r.Context(), req)
}

func (s *service) listKeys(r *http.Request) (any, error) {
	o := owner(r)
	if o == nil {
		return nil, keys.ErrNoIdentity
	}
	return s.keys.List(o), nil
}

func (s *service) putKey(r *http.Request) (any, error) {
	var req client.PutKey
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if req.Material != nil {
		defer clear(req.Material)
		return s.keys.Import(r.Context(), owner(r), req.Name, req.Material, req.Policy)
	}
	return s.keys.Create(r.Context(), owner(r), req.Name, req.Bytes, req.Policy)
}

func (s *service) putPolicy(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return s.keys.SetPolicy(r.Context(), owner(r), r.PathValue("name"), b)
}

// maxReceipts bounds one page of receipts.
const maxReceipts = 1000

func (s *service) receipts(r *http.Request) (any, error) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil && r.URL.Query().Has("after") {
		return nil, fmt.Errorf("%w: after: want a number", keys.ErrInvalid)
	}
	list, err := s.keys.Receipts(owner(r), after, maxReceipts)
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (s *service) receipt(r *http.Request) (any, error) {
	n, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	if err != nil {
		return nil, keys.ErrNotFound
	}
	receipt, err := s.keys.Receipt(owner(r), n)
	if err != nil {
		return nil, err
	}
	return s.sign(r, receipt)
}

// identity vouches for the service key with fresh evidence.
func (s *service) identity(r *http.Request) (any, error) {
	nonce := []byte(r.URL.Query().Get("nonce"))
	if len(nonce) > 128 {
		return nil, fmt.Errorf("%w: nonce: at most 128 characters", keys.ErrInvalid)
	}
	ev, err := evidenceFor(r.Context(), s.enclave, s.spki, nonce)
	return client.Identity{Key: s.spki, Evidence: ev}, err
}

// attest verifies and appraises evidence that carries a nonce of this node, and
// returns an attestation result (the background-check flow of RFC 9334).
func (s *service) attest(r *http.Request) (any, error) {
	var req client.AttestRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if !s.keys.TakeNonce(req.Nonce) {
		return nil, keys.ErrNonce
	}
	policy, err := attest.ParsePolicy(req.Policy)
	if err != nil {
		return nil, err
	}
	appraiser, err := attest.Compile(policy)
	if err != nil {
		return nil, err
	}
	ev, err := evidenceOf(req)
	if err != nil {
		return nil, err
	}
	want := tee.Bind(client.AttestContext, req.Nonce, req.UserData)
	c, v, err := s.verify(ev, &policy, want[:])
	if err != nil {
		return nil, err
	}
	if err := s.appraise(appraiser, c, v); err != nil {
		return nil, err
	}
	return s.result(c, v, req.Format)
}

// evidenceOf is the evidence of a request, out of its wrapper if it is in one.
func evidenceOf(req client.AttestRequest) (tee.Evidence, error) {
	if req.Message == nil {
		return req.Evidence, nil
	}
	if req.Evidence.Data != nil {
		return tee.Evidence{}, fmt.Errorf("%w: evidence and message: want one of them", keys.ErrInvalid)
	}
	m, err := cmw.Parse(req.Message)
	if err != nil {
		return tee.Evidence{}, fmt.Errorf("%w: message: %w", keys.ErrInvalid, err)
	}
	return cmw.Evidence(m)
}

// result states a verdict in the form that was asked for. Its record is kept first.
func (s *service) result(c record.Case, v *attest.Verified, format string) (any, error) {
	id := attest.NewTokenID()
	o := attest.IssueOptions{ID: id}
	if format != "" && format != "jwt" && format != "cwt" {
		return nil, fmt.Errorf("%w: format: want jwt or cwt", keys.ErrInvalid)
	}
	if err := s.verdicts.issued(c, v, tokenID(id)); err != nil {
		return nil, err
	}
	if format == "cwt" {
		token, err := s.issuer.IssueCWT(v, c.Policy.Digest(), o)
		return client.AttestResult{CWT: token}, err
	}
	token, err := s.issuer.Issue(v, c.Policy.Digest(), o)
	return client.AttestResult{Token: token}, err
}
