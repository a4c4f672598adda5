package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
)

func (a *app) instanceUpdate() *cobra.Command {
	var flags launchFlags
	var discard, wait bool
	cmd := &cobra.Command{
		Use: "update NAME IMAGE [-- ARG...]", Short: "Replace what an instance runs by a later version of it",
		Long: "Update stops an instance, gives it another image and launch document, and starts it again if it\n" +
			"ran. Its name and what it keeps stay. So the new version has to be one of the same product by the\n" +
			"same signer (cloister enclave sign), with the same security version or a higher one: any other\n" +
			"could not open what was sealed, and is refused before anything changes, unless the state is given up.",
		Example: "  cloister instance update worker app-2.wasm --signature app-2.sig\n  cloister instance update worker other.wasm --discard-state",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			before, err := host.Instance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			changed := cmd.Flags().Changed
			if !changed("tee") {
				flags.tee = string(before.Spec.TEE)
			}
			if !changed("tee") && !changed("vcpus") && !changed("vm-memory") {
				flags.size = before.Spec.Size
			}
			p, err := flags.prepare(args[1], args[2:])
			if err != nil {
				return err
			}
			p.spec.Restart = before.Spec.Restart
			if !changed("project") {
				p.spec.Project = before.Spec.Project
			}
			i, err := p.send(cmd, client.CreateRequest{Name: args[0], DiscardState: discard}, host.Update)
			if err != nil {
				return fmt.Errorf("update instance: %w", err)
			}
			if wait && i.Status.State == compute.Pending {
				if i, err = host.Wait(cmd.Context(), args[0], client.UntilRunning); err != nil {
					return err
				}
			}
			if err := a.show(i, func(w io.Writer) { describeInstance(w, i) }); err != nil {
				return err
			}
			return a.finalStatus(i)
		},
	}
	flags.register(cmd)
	flags.registerHost(cmd)
	cmd.Flags().BoolVar(&discard, "discard-state", false, "give up what the instance keeps, for a version that could not open it")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it is attested and runs, if it ran")
	return cmd
}
