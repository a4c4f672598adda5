package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
)

func (a *app) attestTPMCA() *cobra.Command {
	var node nodeFlags
	cmd := &cobra.Command{
		Use: "tpm-ca", Short: "Print the certificate under which the node certifies keys of TPMs", Args: cobra.NoArgs,
		Long: "Tpm-ca prints, once the node has proven itself, the certificate (PEM) of its attestation CA: the\n" +
			"root with which anybody verifies the evidence of the node's virtual machines, offline. The node\n" +
			"certifies a key when its TPM has proven that it holds it beside an endorsement key of a maker that\n" +
			"the node knows. Certificates of emulated TPMs say so, and evidence is simulated then.",
		Example: "  cloister attest tpm-ca >tpm-ca.pem\n  cloister attest evidence worker -o json >evidence.json\n  cloister attest verify --evidence evidence.json --roots tpm-ca.pem --policy policy.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd, &node)
			if err != nil {
				return err
			}
			defer n.Close()
			b, err := n.TPMAuthority(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(client.Authority{AttestationKeys: b}, func(w io.Writer) { _, _ = w.Write(b) })
		},
	}
	node.register(cmd)
	return cmd
}
