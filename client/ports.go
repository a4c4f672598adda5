package client

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/cloister-cc/cloister/internal/problem"
)

// StreamProtocol is what a request to a port of an instance is upgraded to.
const StreamProtocol = "cloister-stream/1"

// DialPort connects to a port of the program in an instance, by way of the host. The
// host can read and change what passes: let the program speak TLS, and prove itself. The
// error is a [*Problem] when the instance accepts no connection there.
func (h *Host) DialPort(ctx context.Context, name string, port uint16) (net.Conn, error) {
	c, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	opened, err := upgrade(ctx, c, instancePath(name)+"/ports/"+strconv.Itoa(int(port)))
	if !stop() && err == nil { // the deadline may have been set: the stream is of no use
		err = ctx.Err()
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return opened, nil
}

func upgrade(ctx context.Context, c net.Conn, path string) (net.Conn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://host"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", StreamProtocol)
	if err := req.Write(c); err != nil {
		return nil, fmt.Errorf("ask for port: %w", err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("ask for port: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem.Read(resp)
	}
	return &upgraded{Conn: c, r: r}, nil
}

// upgraded is a connection of which some bytes may have been read already.
type upgraded struct {
	net.Conn
	r *bufio.Reader
}

func (u *upgraded) Read(b []byte) (int, error) { return u.r.Read(b) }

// CloseWrite ends what is sent; the other side may go on.
func (u *upgraded) CloseWrite() error {
	if c, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return u.Close()
}
