package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/internal/server"
)

// Where the portal is by default, and how it is turned off.
const (
	portalFlag    = "portal"
	portalAddress = "127.0.0.1:7480"
	portalNone    = "none"
)

func (a *app) portalCommand() *cobra.Command {
	return &cobra.Command{
		Use: "portal", Short: "Print an address that signs a browser in to the web portal", Args: cobra.NoArgs,
		Long: "Portal prints a login address of the running platform's web portal: its instances, their\n" +
			"evidence, and what this host can see of them. The address is good once, for ten minutes;\n" +
			"whoever opens it can do what the portal can, so do not pass it on.",
		Example: "  cloister portal\n  xdg-open \"$(cloister portal)\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			l, err := host.PortalLogin(cmd.Context())
			if err != nil {
				return err
			}
			if a.output != "json" {
				a.say("good once, until %s", l.Expires.Local().Format(time.TimeOnly))
			}
			return a.show(l, func(w io.Writer) { fmt.Fprintln(w, l.URL) })
		},
	}
}

// portalConfig reads the flag of `up`. Only the default address may give way to
// another one: an address that somebody named is relied on.
func (a *app) portalConfig(cmd *cobra.Command, address string) (server.PortalConfig, error) {
	if address == portalNone {
		return server.PortalConfig{}, nil
	}
	if err := server.CheckPortalAddress(address); err != nil {
		hint := "for example --portal 127.0.0.1:7480, or --portal none"
		if errors.Is(err, server.ErrPortalAddress) {
			hint = "from another machine use a tunnel: ssh -L 7480:127.0.0.1:7480 HOST"
		}
		return server.PortalConfig{}, usageError(fmt.Sprintf("--portal %q: %v", address, err), hint)
	}
	return server.PortalConfig{
		Address: address, OrFree: !cmd.Flags().Changed(portalFlag), Version: version,
		Ready: func(l client.PortalLogin, moved bool) {
			if moved {
				a.say("Another program has %s; the portal has another port.", address)
			}
			a.say("Portal: %s", l.URL)
			a.say("        (good once, for ten minutes; another address: cloister portal)")
		},
	}, nil
}
