package portal

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// cookieName is the session's cookie.
const cookieName = "cloister_session"

// maxForm bounds the body of a form without a file.
const maxForm = 64 << 10

// headers are on every answer. Nothing may be loaded but what this server serves,
// nothing runs inline, nobody frames it, and no cache keeps it.
var headers = [...][2]string{
	{"Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"},
	{"X-Frame-Options", "DENY"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cache-Control", "no-store"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
}

// guard is what every request passes, in this order: headers, the name that this
// server was asked under, where the request comes from, how large it is, and who
// asks. open lists the paths that want no session.
func (p *Portal) guard(next http.Handler) http.Handler {
	same := http.NewCrossOriginProtection()
	same.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.refuse(w, r, http.StatusForbidden, "cross_origin", "another site sent this request", "go back to the portal and do it there")
	}))
	inner := same.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !embeddable(r) {
			p.refuse(w, r, http.StatusForbidden, "cross_origin", "another site sent this request", "open the portal in a tab of its own")
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/assets/") && r.URL.Path != "/login" && !p.signedIn(r) {
			p.refuse(w, r, http.StatusUnauthorized, "no_session", "you are not signed in", "")
			return
		}
		limit := int64(maxForm)
		if r.URL.Path == createPath {
			limit = maxUpload
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		next.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range headers {
			w.Header().Set(h[0], h[1])
		}
		if !p.named(r.Host) {
			// Nothing of the page's own is shown: a page of somebody else's name would
			// be what a rebound name is after.
			http.Error(w, "the portal is not served under this name; use the address that cloister portal prints", http.StatusMisdirectedRequest)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// named reports whether a Host header is a loopback name, or the address that
// this server listens on. The port does not matter: it is another one behind a
// tunnel, and whoever rebinds a name keeps the name.
func (p *Portal) named(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if own, _, err := net.SplitHostPort(p.cfg.Address); err == nil && name == own && own != "" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && ip.IsLoopback()
}

// embeddable refuses what other sites, and other ports of this one, ask for in the
// background: a cookie would go with it.
func embeddable(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	default:
		return r.Header.Get("Sec-Fetch-Mode") == "navigate" && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	}
}

func (p *Portal) signedIn(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	return err == nil && p.sessions.check(c.Value, p.cfg.Now())
}

func (p *Portal) refuse(w http.ResponseWriter, r *http.Request, status int, code, detail, hint string) {
	p.cfg.Logger.InfoContext(r.Context(), "portal refuses a request", slog.String("code", code), slog.String("method", r.Method))
	p.showProblem(w, r, problemPage{Status: status, Code: code, Detail: detail, Hint: hint})
}
