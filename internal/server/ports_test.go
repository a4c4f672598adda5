package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
)

// TestPorts: a client reaches a port of a program through the host, both sides may end
// what they say before the other, and what cannot be is refused with a reason.
func TestPorts(t *testing.T) {
	h, _ := newHost(t)
	if err := os.MkdirAll(filepath.Dir(h.paths.API()), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := unixsock.Listen(h.paths.API())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(sameUser{UnixListener: l}) }()
	t.Cleanup(func() { _ = server.Close() })
	host := client.NewHost(h.paths.Data)

	spec := compute.Spec{TEE: tee.Software, Launch: NodeLaunch()}
	if _, err := h.supervisor.Create(t.Context(), compute.Create{Name: compute.NodeName, Spec: spec}); err != nil {
		t.Fatal(err)
	}
	node(t, h, func(r link.Request, c net.Conn) {
		defer func() { _ = c.Close() }()
		if r.Op != link.OpPort || r.Port != compute.NodePort || link.Accept(c, 0) != nil {
			link.Refuse(c, "not in the launch document")
			return
		}
		b, err := io.ReadAll(c) // until the client has said all
		if err == nil {
			_, _ = c.Write(append([]byte("heard "), b...))
		}
	})
	c, err := host.DialPort(t.Context(), compute.NodeName, compute.NodePort)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("all of it")); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "heard all of it" {
		t.Errorf("%q, %v", b, err)
	}
	for name, c := range map[string]struct {
		instance string
		port     uint16
		status   int
		code     string
	}{
		"no such instance": {"nobody", 8443, http.StatusNotFound, "not_found"}, "no port": {compute.NodeName, 0, http.StatusBadRequest, "bad_request"},
		"another port": {compute.NodeName, 9999, http.StatusServiceUnavailable, "port"},
	} {
		_, err := host.DialPort(t.Context(), c.instance, c.port)
		if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != c.status || p.Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := &http.Client{Transport: &http.Transport{DialContext: unixDialer(h.paths.API())}}
	resp, err := plain.Get("http://host/v1/instances/node/ports/8443")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade: %d", resp.StatusCode)
	}
}

func unixDialer(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return unixsock.Dial(ctx, path) }
}
