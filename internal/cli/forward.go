package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/internal/relay"
)

// forwarding is a local address that leads to a port of an instance.
type forwarding struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
}

func (a *app) instanceForward() *cobra.Command {
	return &cobra.Command{
		Use: "forward NAME [[ADDRESS:]LOCAL:]PORT...", Short: "Make ports of an instance's program reachable here, until stopped",
		Long: "Forward listens on this machine and passes connections on to ports of the program, which its\n" +
			"launch document lists. The host can read and change what passes: TLS has to end in the program,\n" +
			"and clients have to let it prove itself (attested channel). Stop it with Ctrl-C.\n\n" +
			"Without LOCAL the same number is used here, and 0 takes a free one; without ADDRESS only this\n" +
			"machine can connect.",
		Example: "  cloister instance forward web 8443\n  cloister instance forward web 0.0.0.0:443:8443",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			return a.forward(cmd.Context(), host, args[0], args[1:])
		},
	}
}

func (a *app) forward(ctx context.Context, host *client.Host, name string, specs []string) error {
	i, err := host.Instance(ctx, name)
	if err != nil {
		return err
	}
	var list []forwarding
	for _, s := range specs {
		f, err := parseForwarding(s)
		if err != nil {
			return err
		}
		list = append(list, f)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := range list {
		f := &list[n]
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.Address)
		if err != nil {
			stop(nil)
			return &coded{status: exitFailure, code: "listen", err: err, hint: "choose another local port: LOCAL:" + strconv.Itoa(int(f.Port))}
		}
		f.Address = l.Addr().String()
		wg.Go(func() { stop(a.pass(ctx, l, host, i.Name, f.Port)) })
	}
	if err := a.show(list, func(w io.Writer) {
		fmt.Fprintln(w, "LOCAL\tPORT OF "+name)
		for _, f := range list {
			fmt.Fprintf(w, "%s\t%d\n", f.Address, f.Port)
		}
	}); err != nil {
		stop(nil)
		return err
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// parseForwarding reads [[ADDRESS:]LOCAL:]PORT.
func parseForwarding(s string) (forwarding, error) {
	bad := usageError(fmt.Sprintf("%q: want [[ADDRESS:]LOCAL:]PORT", s), "for example 8443, 9000:8443 or 0.0.0.0:9000:8443")
	local, port := "", s
	if at := strings.LastIndexByte(s, ':'); at >= 0 {
		local, port = s[:at], s[at+1:]
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return forwarding{}, bad
	}
	address := "127.0.0.1"
	if at := strings.LastIndexByte(local, ':'); at >= 0 {
		address, local = strings.Trim(local[:at], "[]"), local[at+1:]
		if address == "" {
			return forwarding{}, bad
		}
	} else if local == "" {
		local = port
	}
	if _, err := strconv.ParseUint(local, 10, 16); err != nil {
		return forwarding{}, bad
	}
	return forwarding{Address: net.JoinHostPort(address, local), Port: uint16(number)}, nil
}

// maxForwarded bounds the connections to one port at one time.
const maxForwarded = 256

// pass passes connections on until ctx ends.
func (a *app) pass(ctx context.Context, l net.Listener, host *client.Host, name string, port uint16) error {
	end := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer end()
	slots := make(chan struct{}, maxForwarded)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept connection: %w", err)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = c.Close() }()
			inside, err := host.DialPort(ctx, name, port)
			if err != nil {
				if ctx.Err() == nil {
					a.say("connection from %s turned away: %s", c.RemoteAddr(), oneLine(err.Error()))
				}
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = c.Close(); _ = inside.Close() })
			defer stop()
			relay.Both(c, inside)
		})
	}
}
