package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/shim"
	"github.com/cloister-cc/cloister/internal/relay"
)

// maxClients bounds the connections that are passed on at one time.
const maxClients = 1024

// acceptPause is how long no connection is taken after one could not be.
const acceptPause = 100 * time.Millisecond

// forward passes TCP connections on to the node. TLS ends inside the node: the
// host carries bytes that it cannot read.
func (h *Host) forward(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, maxClients)
	dir := compute.Dir(filepath.Join(h.paths.Instances(), compute.NodeName))
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Without file descriptors or memory for a moment, as http.Server sees it.
			h.logger.WarnContext(ctx, "accept client", slog.Any("error", err))
			pause(ctx, acceptPause)
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			node, err := shim.Dial(dir, compute.NodePort)
			if err != nil {
				h.logger.WarnContext(ctx, "client turned away: the node does not answer", slog.Any("error", err))
				_ = c.Close()
				return
			}
			relay.Both(h.cfg.Record.Conn("client", c), h.cfg.Record.Conn("node", node))
		}()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
