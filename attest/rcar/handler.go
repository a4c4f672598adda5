package rcar

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// Paths of the protocol.
const (
	PathAuth   = "/kbs/v0/auth"
	PathAttest = "/kbs/v0/attest"
)

// Bounds and defaults.
const (
	MaxAuth            = 16 << 10 // bytes of a request
	MaxAttestation     = 1 << 20  // bytes of an attestation
	DefaultLifetime    = 5 * time.Minute
	MaxLifetime        = time.Hour
	DefaultMaxSessions = 4096
)

// cookieName is the name of the session's cookie.
const cookieName = "kbs-session-id"

// Config is what a [Handler] needs. All but the limits are required.
type Config struct {
	// Verify proves evidence, whose report data must be reportData: an
	// [attest.Verifier] with the binding that [Binding] makes of it.
	Verify func(ctx context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error)
	// Issue appraises v and, if the policy accepts it, returns a token that names
	// the key and the nonce. A refusal by policy is an [attest.AppraisalError].
	Issue func(ctx context.Context, v *attest.Verified, confirm *ecdsa.PublicKey, nonce []byte) (string, error)
	// Now is the clock that sessions end by.
	Now func() time.Time
	// Lifetime is how long a nonce is good for; 0 means [DefaultLifetime].
	Lifetime time.Duration
	// MaxSessions is how many may be open; 0 means [DefaultMaxSessions].
	MaxSessions int
}

// Handler answers [PathAuth] and [PathAttest]. It is safe for concurrent use; the
// zero value refuses everything.
type Handler struct {
	cfg      Config
	sessions *sessions
}

// Binding is that evidence of a kind carries the [ReportData] of this protocol.
func Binding(kind tee.Kind, reportData [64]byte) attest.Binding {
	if quotes(kind) {
		return attest.BindToShort(ReportData(kind, reportData))
	}
	return attest.BindTo(reportData)
}

// ReportData is what evidence of a kind has to carry in this protocol: a vTPM quotes
// the digest, and hardware has zeroes behind it.
func ReportData(kind tee.Kind, reportData [64]byte) []byte {
	if quotes(kind) {
		return reportData[:digestSize]
	}
	return reportData[:]
}

// New checks the configuration.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Verify == nil || cfg.Issue == nil || cfg.Now == nil:
		return nil, errors.New("prepare attestation of guests: want Verify, Issue and Now")
	case cfg.Lifetime < 0 || cfg.Lifetime > MaxLifetime:
		return nil, fmt.Errorf("prepare attestation of guests: lifetime %v: want at most %v", cfg.Lifetime, MaxLifetime)
	case cfg.MaxSessions < 0:
		return nil, errors.New("prepare attestation of guests: a negative number of sessions")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = DefaultMaxSessions
	}
	return &Handler{cfg: cfg, sessions: newSessions(cfg.MaxSessions, cfg.Lifetime)}, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := h.attest
	switch r.URL.Path {
	case PathAuth:
		answer = h.auth
	case PathAttest:
	default:
		writeRefusal(w, notFound())
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeRefusal(w, refusal{status: http.StatusMethodNotAllowed, problem: problemPath, detail: "want POST"})
		return
	}
	if h == nil || h.sessions == nil {
		writeRefusal(w, refuse("this service is not configured"))
		return
	}
	body, err := answer(w, r)
	if err != nil {
		writeRefusal(w, refusalOf(err))
		return
	}
	writeJSON(w, http.StatusOK, body)
}

// auth opens a session.
func (h *Handler) auth(w http.ResponseWriter, r *http.Request) (any, error) {
	b, err := readBody(w, r, MaxAuth)
	if err != nil {
		return nil, err
	}
	s, err := parseRequest(b)
	if err != nil {
		return nil, err
	}
	id, err := h.sessions.open(s, h.cfg.Now())
	if err != nil {
		return nil, err
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure over TLS; over plain HTTP, in tests, a client would not send it back
		Name: cookieName, Value: id, Path: "/kbs/v0", MaxAge: int(h.cfg.Lifetime / time.Second),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
	return map[string]string{"nonce": base64.StdEncoding.EncodeToString(s.nonce[:]), "extra-params": ""}, nil
}

// attest closes a session, whatever comes of it, and returns the token.
func (h *Handler) attest(w http.ResponseWriter, r *http.Request) (any, error) {
	b, err := readBody(w, r, MaxAttestation)
	if err != nil {
		return nil, err
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil, refuse("no session: ask %s first and send its cookie back", PathAuth)
	}
	s, ok := h.sessions.take(cookie.Value, h.cfg.Now())
	if !ok {
		return nil, refuse("no such session, or it has expired or was used: ask %s again", PathAuth)
	}
	a, err := s.parseAttestation(b)
	if err != nil {
		return nil, err
	}
	v, err := h.cfg.Verify(r.Context(), a.evidence, a.reportData)
	if err != nil {
		return nil, err
	}
	if err := s.vouchesFor(v, a); err != nil {
		return nil, err
	}
	token, err := h.cfg.Issue(r.Context(), v, a.key, s.nonce[:])
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, refuse("no token was issued")
	}
	return map[string]string{"token": token}, nil
}

// vouchesFor compares what was verified with what was asked for: a Verify that
// forgot to would vouch for the key of whoever sent a recording.
func (s *session) vouchesFor(v *attest.Verified, a *attestation) error {
	if v == nil || v.Claims.TEE != s.tee.kind {
		return refuse("the evidence was not verified")
	}
	want := a.reportData[:]
	if quotes(s.tee.kind) {
		want = want[:digestSize]
	}
	if !bytes.Equal(v.Claims.ReportData, want) {
		return refuse("the evidence answers another nonce, or vouches for another key")
	}
	return nil
}

// quotes reports whether a vTPM speaks for a TEE.
func quotes(kind tee.Kind) bool { return kind == tee.AzureSNP || kind == tee.AzureTDX }

func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, refuse("the body has more than %d bytes", most)
	}
	if err != nil {
		return nil, refuse("the body did not arrive")
	}
	return b, nil
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// A guest that has gone does not read the rest.
	_ = json.NewEncoder(w).Encode(body)
}
