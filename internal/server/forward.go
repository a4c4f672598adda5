package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/shim"
)

// maxClients bounds the connections that are passed on at one time.
const maxClients = 1024

// forward passes TCP connections on to the node. TLS ends inside the node: the
// host carries bytes that it cannot read.
func (h *Host) forward(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, maxClients)
	dir := compute.Dir(filepath.Join(h.paths.Instances(), compute.NodeName))
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
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
			carry(h.cfg.Record.Conn("client", c), h.cfg.Record.Conn("node", node))
		}()
	}
}

func carry(client, node net.Conn) {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(node, client)
		closeWrite(node)
		close(done)
	}()
	_, _ = io.Copy(client, node)
	closeWrite(client)
	<-done
	_ = client.Close()
	_ = node.Close()
}

func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
		return
	}
	_ = c.Close()
}
