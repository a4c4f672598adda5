package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu"
	csoftware "github.com/cloister-cc/cloister/compute/software"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

// probeTimeout bounds all proofs together.
const probeTimeout = 45 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	var kernel string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Show what this machine offers, by trying it", Args: cobra.NoArgs,
		Example: "  cloister doctor\n  cloister doctor -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), probeTimeout)
			defer cancel()
			if isTerminal(a.stderr) {
				a.say("trying what this machine offers; a virtual machine takes a few seconds")
			}
			list := capabilities(ctx, kernel)
			if err := a.show(list, func(w io.Writer) { showCapabilities(w, list) }); err != nil {
				return err
			}
			for _, c := range list {
				if c.Available {
					return nil
				}
			}
			return &coded{status: exitUnavailable, code: "no_tee", err: fmt.Errorf("this machine can run no instance, not even a simulated one")}
		},
	}
	cmd.Flags().StringVar(&kernel, "vm-kernel", "", "kernel that virtual machines boot, with its modules beside it (default the newest in /boot)")
	return cmd
}

// capabilities proves what can be proven and says of the rest that this build
// has no driver for it.
func capabilities(ctx context.Context, kernel string) []compute.Capability {
	list := []compute.Capability{csoftware.New("").Probe(ctx)}
	for _, k := range tee.Kinds() {
		switch k {
		case tee.Software:
		case tee.TPM:
			list = append(list, qemu.New(qemu.Config{Kernel: kernel}).Probe(ctx))
		default:
			list = append(list, compute.Capability{TEE: k, Detail: "this build starts no instances of it" + verifies(k)})
		}
	}
	return list
}

func verifies(k tee.Kind) string {
	if slices.ContainsFunc(all.Verifiers(), func(v tee.Verifier) bool { return v.Kind() == k }) {
		return "; it verifies its evidence: cloister attest verify"
	}
	return ""
}

func showCapabilities(w io.Writer, list []compute.Capability) {
	fmt.Fprintln(w, "TEE\tAVAILABLE\tDETAIL")
	for _, c := range list {
		name := string(c.TEE)
		if c.Simulated {
			name += " (simulated)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, yesNo(c.Available), oneLine(c.Detail))
		if c.Hint != "" {
			fmt.Fprintf(w, "\t\thint: %s\n", c.Hint)
		}
		if len(c.Walls) > 0 {
			fmt.Fprintf(w, "\twalls up\t%s\n", strings.Join(c.Walls, " "))
			fmt.Fprintf(w, "\twalls missing\t%s\n", orDash(strings.Join(c.Missing, " ")))
		}
	}
}
