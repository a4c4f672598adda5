package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
	"github.com/spf13/cobra"
)

// evidenceOutput is the output of `attest evidence`: evidence with what it
// takes to verify that it is fresh.
type evidenceOutput struct {
	tee.Evidence
	ReportData string `json:"report_data"`
}

func (a *app) attestEvidence() *cobra.Command {
	var nonce, exact string
	cmd := &cobra.Command{
		Use: "evidence [NAME]", Short: "Get fresh evidence of a running instance, or of this machine", Args: cobra.MaximumNArgs(1),
		Long: "Evidence asks for fresh evidence of an instance of this host. Without a name it asks the TEE that\n" +
			"this program itself runs in, inside a guest or an enclave: each TEE that it knows is asked, and the\n" +
			"first that answers counts. The output has the report data that the evidence must carry.",
		Example: "  cloister attest evidence worker >worker.json\n" +
			"  cloister attest verify --evidence worker.json --roots root.pem --policy policy.yaml\n" +
			"  cloister attest evidence --nonce 00112233445566778899aabbccddeeff >this-guest.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n := make([]byte, 32)
			_, err := rand.Read(n)
			if nonce != "" {
				n, err = hex.DecodeString(nonce)
			}
			if err != nil || len(n) < 16 || len(n) > 64 {
				return usageError("--nonce: want 16 to 64 bytes in hex", "")
			}
			out, err := a.evidence(cmd.Context(), args, n, exact)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(a.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(out)
		},
	}
	cmd.Flags().StringVar(&nonce, "nonce", "", "your nonce (hex, 16 to 64 bytes; default random)")
	cmd.Flags().StringVar(&exact, "report-data", "", "of this machine only: the report data itself (128 hex digits), for other protocols than ours")
	return cmd
}

// guestContext binds evidence of a machine, asked for by hand, to a nonce.
const guestContext = "cloister guest evidence v1"

func (a *app) evidence(ctx context.Context, args []string, nonce []byte, exact string) (evidenceOutput, error) {
	if len(args) == 0 {
		reportData := tee.Bind(guestContext, nonce)
		if exact != "" {
			b, err := hex.DecodeString(exact)
			if err != nil || len(b) != len(reportData) {
				return evidenceOutput{}, usageError("--report-data: want 128 hex digits", "")
			}
			reportData = [64]byte(b)
		}
		ev, err := all.Evidence(ctx, all.Attesters(), reportData)
		return evidenceOutput{Evidence: ev, ReportData: hex.EncodeToString(reportData[:])}, err
	}
	if exact != "" {
		return evidenceOutput{}, usageError("--report-data goes with this machine's evidence only", "an instance binds its own key and your --nonce")
	}
	host, err := a.host()
	if err != nil {
		return evidenceOutput{}, err
	}
	ev, reportData, err := instanceEvidence(ctx, host, args[0], nonce)
	return evidenceOutput{Evidence: ev, ReportData: hex.EncodeToString(reportData[:])}, err
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
