package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/internal/portal"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee/all"
)

// PortalConfig says where the web portal is served.
type PortalConfig struct {
	// Address is a loopback address with a port; empty means no portal.
	Address string
	// OrFree takes a free port of the same address when that one is taken.
	OrFree bool
	// Version is the release that pages name.
	Version string
	// Ready, when set, is called with a login address once the portal is served,
	// after Config.Ready; moved says that it has another port than Address.
	Ready func(login client.PortalLogin, moved bool)
}

// ErrPortalAddress means that the portal was to be served where others than this
// machine reach it: it has no TLS.
var ErrPortalAddress = errors.New("the portal is served on loopback addresses only")

// CheckPortalAddress refuses an address that the portal cannot be served on.
func CheckPortalAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("portal address %q: want HOST:PORT", address)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return ErrPortalAddress
	}
	return nil
}

// servePortal serves the web portal until its end is called.
func (h *Host) servePortal(ctx context.Context, failed chan<- error) (end func(), err error) {
	cfg := h.cfg.Portal
	if cfg.Address == "" {
		return func() {}, nil
	}
	if err := CheckPortalAddress(cfg.Address); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Address)
	moved := false
	if cfg.OrFree && errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(cfg.Address) // checked above
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
		moved = true
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the portal: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	h.portal, err = portal.New(portal.Config{
		Host: portalHost{h}, Verifier: attest.NewVerifier(all.Verifiers()...), Address: l.Addr().String(), Logger: h.logger,
	})
	if err != nil {
		cancel()
		return nil, errors.Join(err, l.Close())
	}
	h.portalMoved, h.created = moved, make(chan struct{}, 1)
	server := &http.Server{
		Handler: h.portal.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(h.logger.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var wg sync.WaitGroup
	wg.Go(func() { h.portal.Run(ctx) })
	wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("portal: %w", err)
		}
	})
	return func() { cancel(); _ = server.Close(); wg.Wait() }, nil
}

// announcePortal tells whoever started the platform where to sign in.
func (h *Host) announcePortal() {
	if h.portal != nil && h.cfg.Portal.Ready != nil {
		url, expires := h.portal.Login()
		h.cfg.Portal.Ready(client.PortalLogin{URL: url, Expires: expires}, h.portalMoved)
	}
}

// portalLogin gives a login address to whoever may open this socket.
func (h *Host) portalLogin(w http.ResponseWriter, _ *http.Request) error {
	if h.portal == nil {
		return problem.New(http.StatusServiceUnavailable, "no_portal", "this platform serves no portal", "start it with one: cloister up --portal 127.0.0.1:7480")
	}
	url, expires := h.portal.Login()
	w.Header().Set("Cache-Control", "no-store")
	return reply(w, client.PortalLogin{URL: url, Expires: expires})
}
