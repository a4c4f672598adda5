package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/problem"
)

// wantedWait is how long the host waits at most to hear what is wanted.
const wantedWait = 30 * time.Second

// serveHost answers the node's own host, which fetches what vendors publish: the
// node has no network. The host decides nothing by it: every document is signed by
// its vendor and dated, and an older one never replaces a newer one. It can
// withhold them, and then evidence is refused.
func (s *service) serveHost(ctx context.Context, inner net.Listener, logger *slog.Logger) error {
	server := &http.Server{
		Handler: s.hostRoutes(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelInfo), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(inner); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *service) hostRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /collateral", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, collateral.MaxBundle))
		var items []collateral.Item
		if err == nil {
			err = attest.DecodeStrict(b, &items)
		}
		if err == nil {
			err = s.shelf.Add(items...)
		}
		if err != nil {
			problem.Write(w, problem.New(http.StatusBadRequest, "collateral", err.Error(), ""))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /collateral/wanted", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), wantedWait)
		defer cancel()
		wanted := s.shelf.Wanted(ctx)
		if wanted == nil {
			wanted = []collateral.Platform{}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(wanted)
	})
	return mux
}

// listenForHost starts to answer the host, in the background.
func (s *service) listenForHost(ctx context.Context, listen func(uint16) (net.Listener, error), logger *slog.Logger) error {
	inner, err := listen(compute.HostPort)
	if err != nil {
		return err
	}
	go func() {
		if err := s.serveHost(ctx, inner, logger); err != nil {
			logger.WarnContext(ctx, "the host is not heard any more", slog.Any("error", err))
		}
	}()
	return nil
}
