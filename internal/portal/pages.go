package portal

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee"
)

// frame is what every page has around its own part.
type frame struct {
	Title   string
	Section string // the entry of the navigation that is marked
	Bare    bool   // no navigation: nobody is signed in
	// Instance is the one that the page is of, Tab which of its pages.
	Instance *compute.Instance
	Tab      string
	// Live names what the page is about: "*" for everything, the id of an instance,
	// or nothing, and Poll how often it is looked at beside that, in milliseconds.
	Live string
	Poll int

	Theme     string
	Back      string // this page's own path
	Simulated bool   // the platform, or the instance
	Platform  Platform
	Now       time.Time
}

// shown is the data of a template.
type shown struct {
	frame
	Body any
}

// parse reads the templates, each page with the frame around it.
func (p *Portal) parse() (map[string]*template.Template, error) {
	shared, err := template.New("").Funcs(p.functions()).ParseFS(files, "templates/frame.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	names, err := fs.Glob(files, "templates/page-*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		t, err := shared.Clone()
		if err == nil {
			t, err = t.ParseFS(files, name)
		}
		if err != nil {
			return nil, fmt.Errorf("portal: %w", err)
		}
		pages[strings.TrimSuffix(strings.TrimPrefix(name, "templates/page-"), ".html")] = t
	}
	return pages, nil
}

func (p *Portal) functions() template.FuncMap {
	return template.FuncMap{
		"visible": func(v any) string { return Visible(fmt.Sprint(v)) },
		"segment": url.PathEscape,
		"short":   short,
		"size":    size,
		"ago":     func(t time.Time) string { return ago(p.cfg.Now(), t) },
		"clock":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"moment":  func(t time.Time) string { return moment(p.cfg.Now(), t) },
		"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"state":   stateOf,
		"label":   label,
		"gloss":   gloss,
		"pair":    func(a, b any) [2]any { return [2]any{a, b} },
	}
}

// label is a kind of TEE with the word that must be beside it.
func label(k tee.Kind, simulated bool) string {
	if simulated {
		return Visible(string(k)) + " (simulated)"
	}
	return Visible(string(k))
}

// show answers with a page, whole or not at all.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, page string, f frame, body any) error {
	return p.showWith(w, r, http.StatusOK, page, f, body)
}

func (p *Portal) showWith(w http.ResponseWriter, r *http.Request, status int, page string, f frame, body any) error {
	f.Platform, f.Now, f.Theme = p.cfg.Host.Platform(), p.cfg.Now(), themeOf(r)
	f.Simulated = f.Platform.Simulated || f.Instance != nil && f.Instance.Simulated
	if f.Back = "/"; r.Method == http.MethodGet {
		f.Back = ownPath(r.URL.EscapedPath())
	}
	var b bytes.Buffer
	if err := p.pages[page].ExecuteTemplate(&b, "frame", shown{f, body}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := b.WriteTo(w)
	if err != nil {
		p.cfg.Logger.DebugContext(r.Context(), "portal page not sent", slog.Any("error", err))
	}
	return nil
}

// problemPage is a refusal or a failure, as a person reads it.
type problemPage struct {
	Status   int
	Code     string
	Detail   string
	Hint     string
	Failures []tee.Failure
}

// Errors of the pages themselves.
var (
	errNoPage = problem.New(http.StatusNotFound, "not_found", "there is no such page", "")
	errLogin  = problem.New(http.StatusUnauthorized, "login", "this login address is not good any more", "a login address is good once and for ten minutes; get another one: cloister portal")
	errForm   = problem.New(http.StatusBadRequest, "bad_request", "the form could not be read", "go back and send it again")
	errLarge  = problem.New(http.StatusRequestEntityTooLarge, "too_large", "the request is larger than it may be", "")
)

// parseForm reads a form without a file, whose size the guard has bounded.
func parseForm(r *http.Request) error {
	err := r.ParseForm()
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return errLarge
	}
	if err != nil {
		return errForm
	}
	return nil
}

// problemOf says what a person should know of an error. What is not known to be
// harmless stays in the log.
func (p *Portal) problemOf(r *http.Request, err error) problemPage {
	if known, ok := errors.AsType[*problem.Problem](err); ok {
		return problemPage{Status: known.Status, Code: known.Code, Detail: known.Detail, Hint: known.Hint, Failures: known.Failures}
	}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		return problemPage{Status: http.StatusServiceUnavailable, Code: string(e.Code), Detail: e.Error(), Hint: e.Hint}
	}
	switch {
	case errors.Is(err, compute.ErrNotFound):
		return problemPage{Status: http.StatusNotFound, Code: "not_found", Detail: "there is no such instance", Hint: "it may have been deleted"}
	case errors.Is(err, compute.ErrQuota):
		return problemPage{Status: http.StatusForbidden, Code: "quota", Detail: err.Error(), Hint: "stop or delete another instance, or start the platform with another --quota"}
	case errors.Is(err, compute.ErrState):
		return problemPage{Status: http.StatusConflict, Code: "state", Detail: err.Error()}
	case errors.Is(err, compute.ErrRefused):
		return problemPage{Status: http.StatusBadRequest, Code: "refused_at_admission", Detail: err.Error()}
	}
	p.cfg.Logger.ErrorContext(r.Context(), "portal page failed", slog.Any("error", err))
	return problemPage{Status: http.StatusInternalServerError, Code: "internal", Detail: "something went wrong", Hint: "see what cloister up prints on stderr"}
}

func (p *Portal) showProblem(w http.ResponseWriter, r *http.Request, b problemPage) {
	f := frame{Title: http.StatusText(b.Status), Bare: !p.signedIn(r)}
	if err := p.showWith(w, r, b.Status, "problem", f, b); err != nil {
		p.cfg.Logger.ErrorContext(r.Context(), "portal page failed", slog.Any("error", err))
		http.Error(w, http.StatusText(b.Status), b.Status)
	}
}
