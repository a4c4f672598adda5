package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
)

func (a *app) auditCommand() *cobra.Command {
	var node nodeFlags
	cmd := &cobra.Command{
		Use: "audit", Short: "Receipts: who got which key, when, and under which policy",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	node.register(cmd)
	cmd.AddCommand(a.auditList(&node), a.auditReceipt(&node), a.auditVerify(&node))
	return cmd
}

func (a *app) auditList(node *nodeFlags) *cobra.Command {
	var after uint64
	cmd := &cobra.Command{
		Use: "list", Short: "List the receipts of your keys", Args: cobra.NoArgs,
		Example: "  cloister audit list --after 100",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			list, err := n.AllReceipts(cmd.Context(), after)
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				fmt.Fprintln(w, "NUMBER\tTIME\tACTION\tKEY\tVERSION\tTEE\tMEASUREMENT\tINSTANCE")
				for _, r := range list {
					kind := orDash(r.TEE)
					if r.Simulated {
						kind += " (simulated)"
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.Number, r.Time, r.Action, r.Key, r.Version, kind, orDash(short(fmt.Sprintf("%x", r.Measurement))), orDash(r.InstanceID))
				}
			})
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "only receipts with higher numbers")
	return cmd
}

func (a *app) auditReceipt(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "receipt NUMBER", Short: "Get a signed receipt, to keep and to verify anywhere", Args: cobra.ExactArgs(1),
		Example: "  cloister audit receipt 3 >receipt.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usageError(fmt.Sprintf("receipt %q: want a number", args[0]), "list them: cloister audit list")
			}
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			r, err := n.Receipt(cmd.Context(), number)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(a.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(r)
		},
	}
}

// receiptVerdict is the output of `audit verify`.
type receiptVerdict struct {
	Verified  bool   `json:"verified"`
	Simulated bool   `json:"simulated"`
	Number    uint64 `json:"number"`
	Action    string `json:"action"`
	Key       string `json:"key"`
}

// maxReceiptFile bounds a receipt file in bytes.
const maxReceiptFile = 1 << 20

func (a *app) auditVerify(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE", Short: "Verify a receipt offline: signed inside a node that you accept", Args: cobra.ExactArgs(1),
		Example: "  cloister audit verify receipt.json --root root.pem",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return &coded{status: exitUsage, code: "receipt_file", err: err}
			}
			defer func() { _ = f.Close() }()
			var r client.SignedReceipt
			if err := json.NewDecoder(io.LimitReader(f, maxReceiptFile)).Decode(&r); err != nil {
				return &coded{status: exitRefused, code: "parse", err: fmt.Errorf("receipt %s does not parse", args[0])}
			}
			roots, policy, err := a.nodeTrust(node)
			if err != nil {
				return err
			}
			if err := client.VerifyReceipt(r, roots, policy); err != nil {
				return err
			}
			v := receiptVerdict{Verified: true, Simulated: r.Receipt.Simulated, Number: r.Receipt.Number, Action: r.Receipt.Action, Key: r.Receipt.Key}
			return a.show(v, func(w io.Writer) {
				fmt.Fprintf(w, "Receipt %d (%s of %s) is genuine: signed inside the node that the policy names.\n", v.Number, v.Action, v.Key)
			})
		},
	}
}
