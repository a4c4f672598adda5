package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/internal/demo"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	var receipts string
	cmd := &cobra.Command{
		Use: "demo", Short: "Two hospitals learn together, and the host learns nothing: the main job, end to end",
		Long: "Demo starts a fresh platform in a temporary directory, has two hospitals entrust their\n" +
			"keys to one program in a TEE, runs it on their encrypted records, makes ten attacks on\n" +
			"it, and searches everything the host has for secrets. It needs no network, no root and\n" +
			"no other program. The TEE is the software TEE: simulated.\n\n" +
			"The exit status is 0 only if all of it held.",
		Example: "  cloister demo\n  cloister demo -o json\n  cloister demo --keep",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if receipts == "" {
				data, err := a.data()
				if err != nil {
					return err
				}
				receipts = filepath.Join(data, "demo-receipts")
			}
			p := a.progress()
			r, err := demo.Run(cmd.Context(), demo.Config{Receipts: receipts, Keep: keep, Step: p.step})
			p.done()
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			if err := a.show(r, func(w io.Writer) { showDemo(w, r) }); err != nil {
				return err
			}
			if !r.OK {
				return &coded{status: exitFailure, code: "demo_failed", err: fmt.Errorf("demo: %s", strings.Join(r.Problems, "; "))}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the platform running afterwards")
	cmd.Flags().StringVar(&receipts, "receipts", "", "directory for the receipts, replaced (default demo-receipts in the data directory)")
	return cmd
}

func showDemo(w io.Writer, r demo.Report) {
	fmt.Fprintf(w, "WHAT THE HOSPITALS LEARNED\n")
	fmt.Fprintf(w, "  patients that both know\t%d, of whom %d have a malignant tumour\n", r.Result.Patients, r.Result.Malignant)
	fmt.Fprintf(w, "  diagnoses right, from both hospitals' data\t%s\n", score(r.Result.Joint))
	fmt.Fprintf(w, "  … from hospital B's data alone\t%s\n", score(r.Result.Alone))
	fmt.Fprintf(w, "  … from hospital A's data alone\tnone: it has no diagnoses to learn from\n")
	if c := r.Result.Columns; len(c) > 0 {
		fmt.Fprintf(w, "  strongest sign in A's data of B's diagnoses\t%s (correlation %.2f)\n", strings.ReplaceAll(c[0].Name, "_", " "), c[0].Correlation)
	}
	fmt.Fprintf(w, "\nWHAT THE HOST TRIED\tREFUSED\tREASON\n")
	for _, x := range r.Attacks {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", x.Name, yesNo(x.Refused), x.Code)
	}
	fmt.Fprintf(w, "\nWHAT THE HOST COULD SEE\tSEARCHED\tPLANTED SECRET FOUND\n")
	for _, p := range r.Canary.Searched {
		fmt.Fprintf(w, "  %s\t%d items, %s\t%s\n", p.Kind, p.Items, size(p.Bytes), yesNo(p.Control))
	}
	fmt.Fprintf(w, "  real secrets found\t%d\t\n", r.Canary.Hits)
	fmt.Fprintf(w, "\nRECEIPTS\tKEY\tVERIFIED\n")
	for _, x := range r.Receipts {
		fmt.Fprintf(w, "  %s (%s)\t%s\t%s\n", x.File, x.Action, x.Key, yesNo(x.Verified))
	}
	fmt.Fprintf(w, "\nVerify one yourself, offline:\n  %s audit verify %s --root %s\n", self(), filepath.Join(r.ReceiptDir, "receipt-1.json"), filepath.Join(r.ReceiptDir, "root.pem"))
	if k := r.Kept; k != nil {
		fmt.Fprintf(w, "\nThe platform is still up (process %d). Look around, then stop it:\n  %s instance list --data-dir %s\n", k.PID, self(), k.DataDir)
		fmt.Fprintf(w, "  %s key list --data-dir %s --identity %s\n  kill %d && rm -r %s\n", self(), k.DataDir, k.Identities["hospital-a"], k.PID, filepath.Dir(k.DataDir))
	}
	verdict := "NOT ALL OF IT HELD"
	if r.OK {
		verdict = "all of it held"
	}
	fmt.Fprintf(w, "\nMeasurement of the program: %s\nThe TEE was simulated (software TEE, for development). %.1f s: %s.\n", r.Measurement, r.Seconds, verdict)
}

func score(s demo.Score) string {
	return fmt.Sprintf("%d of %d (area under the ROC curve %.3f)", s.Correct, s.Tested, s.AUC)
}

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// self is how this program was called, for commands to copy.
func self() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/cloister"
	}
	return "cloister"
}
