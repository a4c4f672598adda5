package portal

import (
	"log/slog"
	"net/http"
	"strings"
)

// loginPage asks for one click: a GET must not spend the token, because programs
// that look at links beforehand would.
type loginPage struct{ Token string }

func (p *Portal) loginForm(w http.ResponseWriter, r *http.Request) error {
	token := r.URL.Query().Get("token")
	if token == "" && p.signedIn(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	return p.show(w, r, "login", frame{Title: "Sign in", Bare: true}, loginPage{token})
}

func (p *Portal) login(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	if !p.logins.spend(r.PostForm.Get("token"), p.cfg.Now()) {
		p.cfg.Logger.WarnContext(r.Context(), "portal login refused", slog.String("from", r.RemoteAddr))
		return errLogin
	}
	session, _ := p.sessions.issue(p.cfg.Now())
	http.SetCookie(w, cookie(cookieName, session, int(SessionTime.Seconds())))
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func (p *Portal) logout(w http.ResponseWriter, r *http.Request) error {
	if c, err := r.Cookie(cookieName); err == nil {
		p.sessions.spend(c.Value, p.cfg.Now())
	}
	http.SetCookie(w, cookie(cookieName, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// cookie is one that no script reads and no other site's request carries. It is
// not marked Secure: the portal is plain HTTP on loopback, and not every browser
// takes such a cookie there.
func cookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode} //nolint:gosec // see above
}

// themeCookie holds "light" or "dark"; without it the browser's setting counts.
const (
	themeCookie = "cloister_theme"
	themeTime   = 365 * 24 * 3600
)

func (p *Portal) theme(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	switch t := r.PostForm.Get("theme"); t {
	case "light", "dark":
		http.SetCookie(w, cookie(themeCookie, t, themeTime))
	default:
		http.SetCookie(w, cookie(themeCookie, "", -1))
	}
	http.Redirect(w, r, ownPath(r.PostForm.Get("back")), http.StatusSeeOther) //nolint:gosec // a path of this server, whatever it says
	return nil
}

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

// ownPath returns a path of this server, whatever a form says.
func ownPath(s string) string {
	if !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '\\' || r >= 0x7f }) {
		return "/"
	}
	return s
}
