package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
)

// topPeriod is the time over which `instance top` looks how busy instances are.
const topPeriod = time.Second

// topRow is what an instance costs.
type topRow struct {
	Name      string  `json:"name"`
	TEE       string  `json:"tee"`
	Simulated bool    `json:"simulated"`
	State     string  `json:"state"`
	CPU       float64 `json:"cpu_percent"` // of one processor
	Memory    int64   `json:"memory_bytes"`
	Processes int     `json:"processes"`
	CPUTotal  float64 `json:"cpu_seconds"`
}

func (a *app) instanceTop() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use: "top", Short: "Show what running instances cost this machine", Args: cobra.NoArgs,
		Long: "Top shows processor time and memory of what runs below each instance's owner, as the host sees\n" +
			"it: of a virtual machine QEMU and its TPM. On a terminal it goes on until Ctrl-C.",
		Example: "  cloister instance top\n  cloister instance top -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			before, err := host.Usage(cmd.Context())
			if err != nil {
				return err
			}
			again := isTerminal(a.stdout) && a.output == "table" && !once
			for {
				rows, after, err := a.topRows(cmd.Context(), host, before)
				if err != nil {
					return err
				}
				if again {
					fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
				}
				if err := a.show(rows, func(w io.Writer) { showTop(w, rows) }); err != nil || !again {
					return err
				}
				before = after
			}
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print it once, also on a terminal")
	return cmd
}

// topRows looks again after a while, and compares.
func (a *app) topRows(ctx context.Context, host *client.Host, before client.Usage) ([]topRow, client.Usage, error) {
	select {
	case <-ctx.Done():
		return nil, before, ctx.Err()
	case <-time.After(topPeriod):
	}
	after, err := host.Usage(ctx)
	if err != nil {
		return nil, before, err
	}
	list, err := host.Instances(ctx)
	if err != nil {
		return nil, before, err
	}
	elapsed := after.At.Sub(before.At).Seconds()
	rows := []topRow{}
	for _, i := range list {
		now, running := after.Instances[i.Name]
		if !running {
			continue
		}
		r := topRow{
			Name: i.Name, TEE: string(i.Spec.TEE), Simulated: i.Simulated, State: string(i.Status.State), Memory: now.Memory, Processes: now.Processes, CPUTotal: now.CPU.Seconds(),
		}
		if then, there := before.Instances[i.Name]; there && elapsed > 0 {
			r.CPU = max(0, 100*(now.CPU-then.CPU).Seconds()/elapsed)
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(x, y topRow) int { return int(y.CPU) - int(x.CPU) })
	return rows, after, nil
}

func showTop(w io.Writer, rows []topRow) {
	fmt.Fprintln(w, "NAME\tTEE\tSTATE\tCPU %\tMEMORY MiB\tPROCESSES\tCPU TIME")
	for _, r := range rows {
		label := r.TEE
		if r.Simulated {
			label += " (simulated)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f\t%.0f\t%d\t%.1fs\n", r.Name, label, r.State, r.CPU, float64(r.Memory)/(1<<20), r.Processes, r.CPUTotal)
	}
}
