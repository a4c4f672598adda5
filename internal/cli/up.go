package cli

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/server"
	"github.com/cloister-cc/cloister/internal/tap"
)

func (a *app) upCommand() *cobra.Command {
	var listen, record, kernel, portal string
	var quotas []string
	var fetch bool
	keep := string(datadir.KeepReleases)
	var from fetchFlags
	cmd := &cobra.Command{
		Use: "up", Short: "Run the platform on this machine until stopped",
		Long: "Up starts the software TEE (simulated), the node with attestation and keys inside it,\n" +
			"and all instances that should run. Stop it with Ctrl-C: instances are stopped, and\n" +
			"start again with the next up. Killed instead, instances go on, and the next up adopts them.",
		Example: "  cloister up\n  cloister up --data-dir /srv/cloister --listen 127.0.0.1:7443",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := a.data()
			if err != nil {
				return err
			}
			logger, err := a.logger()
			if err != nil {
				return err
			}
			if !datadir.Keep(keep).Valid() {
				return usageError(fmt.Sprintf("--keep-verdicts %q: want none, releases or all", keep), "")
			}
			if record != "" {
				if record, err = filepath.Abs(record); err != nil {
					return err
				}
			}
			limits, err := parseQuotas(quotas)
			if err != nil {
				return err
			}
			if kernel != "" {
				if kernel, err = filepath.Abs(kernel); err != nil {
					return err
				}
			}
			at, err := a.portalConfig(cmd, portal)
			if err != nil {
				return err
			}
			return server.Run(cmd.Context(), server.Config{
				Data: data, Listen: listen, Logger: logger, Record: tap.Dir(record), Sources: from.sources(fetch), KeepVerdicts: datadir.Keep(keep), Kernel: kernel, Quotas: limits,
				Portal: at,
				Ready:  func(p client.Platform) { a.announce(data, p) },
			})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:7443", "TCP address of the node's HTTPS face; TLS ends inside its TEE")
	cmd.Flags().StringVar(&portal, portalFlag, portalAddress, "loopback address of the web portal, or none; by default another port when that one is taken")
	cmd.Flags().StringVar(&record, "record-traffic", "", "record everything that passes between processes into this directory, to search it (slow)")
	cmd.Flags().StringArrayVar(&quotas, "quota", nil, "what the instances of a project may take: PROJECT=instances:N,memory:MIB,vcpus:N; * is each project that is not named; repeatable")
	cmd.Flags().StringVar(&kernel, "vm-kernel", "", "kernel that virtual machines boot, with its modules beside it (default the newest in /boot)")
	cmd.Flags().BoolVar(&fetch, "fetch-collateral", true, "fetch from Intel and AMD what the node needs to verify evidence; else only what was imported")
	from.registerSources(cmd.Flags())
	cmd.Flags().StringVar(&keep, "keep-verdicts", keep, "verdicts that the node keeps records of, for attest replay and impact: none, releases, or all, which has every attestation result and refusal too")
	return cmd
}

func parseQuotas(list []string) (compute.Quotas, error) {
	out := compute.Quotas{}
	for _, s := range list {
		project, q, err := compute.ParseQuota(s)
		if err == nil && out[project] != (compute.Quota{}) {
			err = fmt.Errorf("quota %q: the project %s has one already", s, project)
		}
		if err != nil {
			return nil, usageError(err.Error(), "for example: --quota 'team-a=instances:10,memory:8192' --quota '*=instances:2'")
		}
		out[project] = q
	}
	return out, nil
}

// upReady is the one line of JSON that `up -o json` prints once it is ready.
type upReady struct {
	Ready bool `json:"ready"`
	client.Platform
	DataDir  string `json:"data_dir"`
	RootFile string `json:"root_file"`
}

func (a *app) announce(data string, p client.Platform) {
	r := upReady{Ready: true, Platform: p, DataDir: data, RootFile: datadir.Paths{Data: data}.Root()}
	_ = a.show(r, func(w io.Writer) {
		fmt.Fprintf(w, "Cloister is up (software TEE: simulated, for development).\n")
		fmt.Fprintf(w, "Node:\thttps://%s\n", p.Address)
		fmt.Fprintf(w, "Measurement:\t%s\n", p.NodeMeasurement)
		fmt.Fprintf(w, "Root:\t%s\n", r.RootFile)
		fmt.Fprintf(w, "Data:\t%s\n", data)
		fmt.Fprintf(w, "Try:\tcloister run app.wasm        Stop: Ctrl-C\n")
	})
}
