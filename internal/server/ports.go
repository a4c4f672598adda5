package server

import (
	"net/http"
	"strconv"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute/shim"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/internal/relay"
)

// port makes the connection of a request one to a port of an instance's program, after
// an upgrade (RFC 9110 section 7.8). What passes, the host carries and does not look at:
// TLS, where the program speaks it, ends inside.
func (h *Host) port(w http.ResponseWriter, r *http.Request) error {
	dir, err := h.supervisor.Dir(r.PathValue("name"))
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 {
		return problem.New(http.StatusBadRequest, "bad_request", "port: want 1 to 65535", "")
	}
	if r.Header.Get("Upgrade") != client.StreamProtocol {
		return problem.New(http.StatusUpgradeRequired, "upgrade", "want an upgrade to "+client.StreamProtocol, "")
	}
	inside, err := shim.Dial(dir, uint16(port))
	if err != nil {
		return problem.New(http.StatusServiceUnavailable, "port", "the instance accepts no connection to that port: "+err.Error(), "is it running, and is the port in its launch document? cloister instance describe "+r.PathValue("name"))
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", client.StreamProtocol)
	w.WriteHeader(http.StatusSwitchingProtocols)
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = inside.Close()
		return err
	}
	if n := buffered.Reader.Buffered(); n > 0 { // sent before our answer was read
		b, err := buffered.Peek(n)
		if err == nil {
			_, err = inside.Write(b)
		}
		if err != nil {
			_ = c.Close()
			_ = inside.Close()
			return nil //nolint:nilerr // the answer is out already
		}
	}
	relay.Both(c, h.cfg.Record.Conn("port", inside))
	return nil
}
