package portal

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
)

//go:embed assets templates
var files embed.FS

// Config is what a portal is made of.
type Config struct {
	Host Host
	// Verifier verifies the evidence of the host's instances.
	Verifier *attest.Verifier
	// Address is the address, host and port, that the portal is served on.
	Address string
	// Logger receives what happens; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Portal is the web portal of a host. It is safe for concurrent use.
type Portal struct {
	cfg       Config
	pages     map[string]*template.Template
	judges    []*attest.Appraiser
	logins    tickets
	sessions  tickets
	journal   *journal
	proofs    proofs
	streaming chan struct{} // one token for each live stream
}

// New returns a portal. [Portal.Run] must run while it is served.
func New(cfg Config) (*Portal, error) {
	if cfg.Host == nil || cfg.Verifier == nil {
		return nil, errors.New("portal: a host and a verifier are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Portal{
		cfg: cfg, journal: newJournal(cfg.Now), proofs: proofs{ask: make(chan struct{}, 1)}, streaming: make(chan struct{}, maxStreams),
		logins: tickets{most: maxLogins, life: LoginTime}, sessions: tickets{most: maxSessions, life: SessionTime},
	}
	for _, policy := range []attest.Policy{attest.Development(), attest.HardwareDefault()} {
		a, err := attest.Compile(policy)
		if err != nil {
			return nil, fmt.Errorf("portal: %w", err)
		}
		p.judges = append(p.judges, a)
	}
	var err error
	p.pages, err = p.parse()
	return p, err
}

// Run keeps the portal's journal of what happens to instances, and proves what
// this machine offers when a page asks for it, until ctx ends.
func (p *Portal) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.prove(ctx) })
	p.cfg.Host.Watch(ctx, p.journal.changed, p.journal.gone)
}

// Login returns an address that signs a browser in, once, until it expires.
func (p *Portal) Login() (address string, expires time.Time) {
	token, expires := p.logins.issue(p.cfg.Now())
	u := url.URL{Scheme: "http", Host: p.cfg.Address, Path: "/login", RawQuery: url.Values{"token": {token}}.Encode()}
	return u.String(), expires
}

// Handler returns the pages.
func (p *Portal) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				p.showProblem(w, r, p.problemOf(r, err))
			}
		})
	}
	handle("GET /{$}", p.overview)
	handle("POST /proofs", p.askProofs)
	handle("GET /instances", p.instances)
	handle("GET /instances/{name}", p.state)
	handle("GET /instances/{name}/evidence", p.evidence)
	handle("GET /instances/{name}/host", p.sight)
	handle("GET /instances/{name}/logs", p.logs)
	handle("GET /instances/{name}/launch", p.launch)
	handle("GET /instances/{name}/events", p.events)
	handle("GET /instances/{name}/do/{action}", p.confirm)
	handle("POST /instances/{name}/do/{action}", p.act)
	handle("GET "+createPath, p.createForm)
	handle("POST "+createPath, p.create)
	handle("GET /live", p.live)
	handle("GET /login", p.loginForm)
	handle("POST /login", p.login)
	handle("POST /logout", p.logout)
	handle("POST /theme", p.theme)
	handle("/", func(http.ResponseWriter, *http.Request) error { return errNoPage })
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(err) // a constant path
	}
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(assets)))
	return p.guard(mux)
}
