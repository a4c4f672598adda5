package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
)

func (a *app) runCommand() *cobra.Command {
	var flags launchFlags
	var name string
	var keep bool
	cmd := &cobra.Command{
		Use: "run IMAGE [-- ARG...]", Short: "Run a program in a TEE instance and get its output",
		Long: "Run creates an instance, waits until it is attested and its program has ended, prints\n" +
			"what the program printed, saves its outputs, and deletes the instance.\n\n" +
			"The exit status is 0 if the program ended with status 0, 3 if the instance was refused\n" +
			"its secrets, and 1 otherwise. A platform must run: cloister up.",
		Example: "  cloister run app.wasm --in data=records.enc --secret data-key=hospital-a/records --out result=result.enc",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := flags.prepare(args[0], args[1:])
			if err != nil {
				return err
			}
			host, err := a.host()
			if err != nil {
				return err
			}
			if name == "" {
				name = runName(args[0])
			}
			return a.run(cmd, host, p, name, keep)
		},
	}
	flags.register(cmd)
	flags.registerHost(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the instance (default from the image)")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the instance afterwards")
	return cmd
}

func (a *app) run(cmd *cobra.Command, host *client.Host, p prepared, name string, keep bool) error {
	p.spec.Restart = compute.RestartNever
	if _, err := p.create(cmd, host, name, true); err != nil {
		return err
	}
	if !keep {
		defer func() { _ = host.Delete(context.WithoutCancel(cmd.Context()), name) }()
	}
	log, err := host.Logs(cmd.Context(), name, true)
	if err != nil {
		return err
	}
	stdout := a.stdout
	if a.output == "json" {
		stdout = a.stderr
	}
	err = printLog(log, stdout, a.stderr)
	_ = log.Close()
	if err != nil {
		return err
	}
	i, err := host.Wait(cmd.Context(), name, client.UntilFinal)
	if err != nil {
		return err
	}
	if i.Status.State == compute.Stopped {
		if err := p.save(cmd, host, name); err != nil {
			return err
		}
	}
	if a.output == "json" {
		if err := a.show(i, nil); err != nil {
			return err
		}
	}
	return a.finalStatus(i)
}

// runName makes a name that is not taken from the image's name.
func runName(image string) string {
	base := strings.ToLower(strings.TrimSuffix(filepath.Base(image), filepath.Ext(image)))
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, base)
	clean = strings.Trim(clean[:min(len(clean), 40)], "-")
	if clean == "" {
		clean = "run"
	}
	var b [3]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%s-%s", clean, hex.EncodeToString(b[:]))
}
