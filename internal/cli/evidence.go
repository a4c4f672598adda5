package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/tee"
	"github.com/spf13/cobra"
)

// evidenceOutput is the output of `attest evidence`: evidence with what it
// takes to verify that it is fresh.
type evidenceOutput struct {
	tee.Evidence
	ReportData string `json:"report_data"`
}

func (a *app) attestEvidence() *cobra.Command {
	var nonce string
	cmd := &cobra.Command{
		Use: "evidence NAME", Short: "Get fresh evidence of a running instance", Args: cobra.ExactArgs(1),
		Example: "  cloister attest evidence worker >worker.json\n" +
			"  cloister attest verify --evidence worker.json --roots root.pem --policy policy.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			n := make([]byte, 32)
			_, err := rand.Read(n)
			if nonce != "" {
				n, err = hex.DecodeString(nonce)
			}
			if err != nil || len(n) < 16 || len(n) > 64 {
				return usageError("--nonce: want 16 to 64 bytes in hex", "")
			}
			host, err := a.host()
			if err != nil {
				return err
			}
			ev, reportData, err := instanceEvidence(cmd.Context(), host, args[0], n)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(a.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(evidenceOutput{Evidence: ev, ReportData: hex.EncodeToString(reportData[:])})
		},
	}
	cmd.Flags().StringVar(&nonce, "nonce", "", "your nonce (hex, 16 to 64 bytes; default random)")
	return cmd
}

// instanceEvidence returns evidence with the report data that it must carry for
// this nonce, by what the host says of the instance.
func instanceEvidence(ctx context.Context, host *client.Host, name string, nonce []byte) (tee.Evidence, [64]byte, error) {
	i, err := host.Instance(ctx, name)
	if err != nil {
		return tee.Evidence{}, [64]byte{}, err
	}
	digest, err := i.Spec.Launch.Digest()
	if err != nil {
		return tee.Evidence{}, [64]byte{}, err
	}
	ev, err := host.Evidence(ctx, name, nonce)
	return ev, agent.DescribeBinding(nonce, digest[:], i.ID), err
}
