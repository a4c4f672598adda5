package cli

import (
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/client"
)

func (a *app) attestProvider() *cobra.Command {
	var node nodeFlags
	cmd := &cobra.Command{
		Use: "provider", Short: "Attestation providers, for clients of Azure Attestation", Args: cobra.NoArgs,
		Long: "The node speaks the protocol of Azure Attestation: clients made for Microsoft's service work\n" +
			"against it. At its root is a provider that anybody may use and nobody owns, with the default\n" +
			"policies; your own have policies and signing keys of their own, under /azure/NAME.\n\n" +
			"Clients need the certificate of the node's authority (provider ca), and an access token of\n" +
			"the owner (provider token) where they change something.",
		Example: "  cloister attest provider create hospital\n" +
			"  cloister attest provider ca >ca.pem          # then NODE_EXTRA_CA_CERTS=ca.pem, REQUESTS_CA_BUNDLE=ca.pem\n" +
			"  cloister attest provider token >token",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	node.register(cmd)
	cmd.AddCommand(a.providerCreate(&node), a.providerList(&node), a.providerOne(&node), a.providerRotate(&node), a.providerDelete(&node),
		a.providerToken(&node), a.providerCA(&node))
	return cmd
}

func (a *app) providerCreate(node *nodeFlags) *cobra.Command {
	var s maa.Settings
	var signers []string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create an attestation provider", Args: cobra.ExactArgs(1),
		Long: "Create makes a provider that you own. With --signer it is isolated: it takes only policies that\n" +
			"a policy signer has signed, and nobody can make it another kind later.",
		Example: "  cloister attest provider create hospital\n" +
			"  cloister attest provider create hospital --algorithm RS256 --signer policy-signer.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Name = args[0]
			for _, path := range signers {
				der, err := readCertificate(path)
				if err != nil {
					return err
				}
				s.Signers = append(s.Signers, der)
			}
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			info, err := n.CreateProvider(cmd.Context(), s)
			if err != nil {
				return err
			}
			return a.showProvider(info)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Algorithm, "algorithm", maa.ES256, "signs its tokens: ES256, ES384, or RS256 for clients that know nothing else")
	f.StringVar(&s.Issuer, "issuer", "", "iss of its tokens (default: the URL under which a client asks)")
	f.IntVar(&s.GraceDays, "collateral-grace-days", 0, "by how many days collateral may be past its next update")
	f.StringArrayVar(&signers, "signer", nil, "certificate (PEM) of a policy signer; repeat for more")
	return cmd
}

// readCertificate reads one certificate in PEM.
func readCertificate(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &coded{status: exitUsage, code: "certificate_file", err: err}
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, usageError(path+" is not one certificate in PEM", "")
	}
	return block.Bytes, nil
}

func (a *app) providerList(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List your attestation providers", Args: cobra.NoArgs, Example: "  cloister attest provider list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			list, err := n.Providers(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tPATH\tALGORITHM\tISOLATED\tCHANGED")
				for _, p := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.Path, p.Algorithm, yesNo(p.Isolated), p.Changed.Format("2006-01-02 15:04:05"))
				}
			})
		},
	}
}

func (a *app) providerOne(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Describe one of your attestation providers", Args: cobra.ExactArgs(1), Example: "  cloister attest provider show hospital",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withProvider(cmd, node, func(n *client.Node) (maa.Info, error) { return n.Provider(cmd.Context(), args[0]) })
		},
	}
}

func (a *app) providerRotate(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "rotate NAME", Short: "Give a provider a new signing key", Args: cobra.ExactArgs(1), Example: "  cloister attest provider rotate hospital",
		Long: "Rotate makes a new signing key. The one before stays in the published key set until the last\n" +
			"token that it can have signed has expired, a day at most.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withProvider(cmd, node, func(n *client.Node) (maa.Info, error) { return n.RotateProvider(cmd.Context(), args[0]) })
		},
	}
}

func (a *app) providerDelete(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a provider; its tokens can no longer be verified", Args: cobra.ExactArgs(1), Example: "  cloister attest provider delete hospital",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			return n.DeleteProvider(cmd.Context(), args[0])
		},
	}
}

func (a *app) providerToken(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "token", Short: "Print an access token that speaks for you, good for an hour", Args: cobra.NoArgs, Example: "  cloister attest provider token >token",
		Long: "Token prints a Bearer token for clients that cannot show your certificate, such as those of Azure\n" +
			"Attestation. It is a secret: whoever has it can change your providers until it ends.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			t, err := n.AccessToken(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(t, func(w io.Writer) { fmt.Fprintln(w, t.Token) })
		},
	}
}

func (a *app) providerCA(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ca", Short: "Print the certificate under which the node's HTTPS is", Args: cobra.NoArgs, Example: "  cloister attest provider ca >ca.pem",
		Long: "Ca prints, once the node has proven itself, the certificate (PEM) of its authority, for clients that\n" +
			"verify TLS the ordinary way. Its key never leaves the node. Trust it for the node's names only.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			b, err := n.Authority(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(client.Authority{Certificate: b}, func(w io.Writer) { _, _ = w.Write(b) })
		},
	}
}

// withProvider does something with a provider and shows it.
func (a *app) withProvider(cmd *cobra.Command, node *nodeFlags, do func(*client.Node) (maa.Info, error)) error {
	n, err := a.connect(cmd, node)
	if err != nil {
		return err
	}
	defer n.Close()
	info, err := do(n)
	if err != nil {
		return err
	}
	return a.showProvider(info)
}

func (a *app) showProvider(p maa.Info) error {
	return a.show(p, func(w io.Writer) {
		fmt.Fprintf(w, "Name:\t%s\nPath:\t%s\nAlgorithm:\t%s\nIssuer:\t%s\nIsolated:\t%s\n", p.Name, p.Path, p.Algorithm, orDash(p.Issuer), yesNo(p.Isolated))
		if p.GraceDays > 0 {
			fmt.Fprintf(w, "Grace:\t%d days\n", p.GraceDays)
		}
		for _, typ := range slices.Sorted(maps.Keys(p.Policies)) {
			fmt.Fprintf(w, "Policy:\t%s %s\n", typ, p.Policies[typ])
		}
		for _, k := range p.Keys {
			fmt.Fprintf(w, "Key:\t%s\n", k)
		}
	})
}
