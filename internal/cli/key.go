package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
)

func (a *app) keyCommand() *cobra.Command {
	var node nodeFlags
	cmd := &cobra.Command{
		Use: "key", Aliases: []string{"keys"}, Short: "Keys that are released to attested code only",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	node.register(cmd)
	cmd.AddCommand(a.keyCreate(&node), a.keyImport(&node), a.keyGet(&node), a.keyList(&node), a.keyRotate(&node), a.keyPolicy(&node))
	return cmd
}

// policyFlags name a release policy: a file, or the measurement of an image.
type policyFlags struct {
	file     string
	measured string
	software bool
	lease    int
}

func (p *policyFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.file, "policy", "", "release policy (YAML or JSON)")
	f.StringVar(&p.measured, "measurement", "", "instead of a policy: release to exactly this measurement (cloister instance measure)")
	f.BoolVar(&p.software, "allow-simulated", false, "with --measurement: on the software TEE, which is simulated")
	f.IntVar(&p.lease, "lease", 0, "seconds that a release lasts (default 3600)")
}

func (p *policyFlags) read() (keys.Policy, error) {
	var out keys.Policy
	switch {
	case (p.file == "") == (p.measured == ""):
		return out, usageError("name who may have the key", "give --policy FILE, or --measurement HEX")
	case p.file != "":
		if p.software {
			return out, usageError("--allow-simulated goes with --measurement", "say it in the policy: allow_simulated: true")
		}
		var err error
		if out, err = readReleasePolicy(p.file); err != nil {
			return out, err
		}
	default:
		m, err := tee.ParseMeasurement(p.measured)
		if err != nil {
			return out, usageError("--measurement: "+err.Error(), "print it: cloister instance measure IMAGE")
		}
		out.Appraisal = attest.HardwareDefault()
		if p.software {
			out.Appraisal = attest.Development()
		}
		out.Appraisal.Name = "exact measurement"
		out.Appraisal.Measurements = []string{m.String()}
	}
	if p.lease != 0 {
		out.LeaseSeconds = p.lease
	}
	return out, nil
}

func (a *app) keyCreate(node *nodeFlags) *cobra.Command {
	var policy policyFlags
	var size int
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a random key that nobody outside attested code ever sees", Args: cobra.ExactArgs(1),
		Example: "  cloister key create hospital-a/records --policy release.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.putKey(cmd, node, &policy, client.PutKey{Name: args[0], Bytes: size})
		},
	}
	policy.register(cmd)
	cmd.Flags().IntVar(&size, "bytes", 32, "length of the key")
	return cmd
}

func (a *app) keyImport(node *nodeFlags) *cobra.Command {
	var policy policyFlags
	var file string
	cmd := &cobra.Command{
		Use: "import NAME --file FILE", Short: "Import a key that you made", Args: cobra.ExactArgs(1),
		Example: "  cloister key import hospital-a/records --file data.key --policy release.yaml\n" +
			"  cloister key import hospital-a/records --file - --measurement $M <data.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			material, err := a.readSecret(file)
			if err != nil {
				return err
			}
			defer clear(material)
			return a.putKey(cmd, node, &policy, client.PutKey{Name: args[0], Material: material})
		},
	}
	policy.register(cmd)
	cmd.Flags().StringVar(&file, "file", "", "file with the key's raw bytes; - is stdin")
	return cmd
}

// readSecret reads key material from a file or stdin, never from the command
// line.
func (a *app) readSecret(file string) ([]byte, error) {
	if file == "" {
		return nil, usageError("--file is missing", "secrets come from files or stdin: --file FILE or --file -")
	}
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &coded{status: exitUsage, code: "key_file", err: err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, keys.MaxKey+1))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(b) == 0 || len(b) > keys.MaxKey {
		return nil, usageError(fmt.Sprintf("the key has %d bytes: want 1 to %d", len(b), keys.MaxKey), "")
	}
	return b, nil
}

func (a *app) putKey(cmd *cobra.Command, node *nodeFlags, policy *policyFlags, k client.PutKey) error {
	p, err := policy.read()
	if err != nil {
		return err
	}
	if k.Policy, err = json.Marshal(p); err != nil {
		return err
	}
	n, err := a.connect(cmd, node)
	if err != nil {
		return err
	}
	defer n.Close()
	info, err := n.PutKey(cmd.Context(), k)
	if err != nil {
		return err
	}
	return a.showKey(info)
}

func (a *app) showKey(k keys.Key) error {
	return a.show(k, func(w io.Writer) {
		fmt.Fprintf(w, "Name:\t%s\nVersion:\t%d\nBytes:\t%d\nOwner:\t%s (you)\nPolicy:\t%s\n", k.Name, k.Version, k.Bytes, short(k.Owner), k.Policy.Appraisal.Name)
		fmt.Fprintf(w, "Accepts:\t%v, measurements %v, simulated %s, debug %s\n", k.Policy.Appraisal.Accept, k.Policy.Appraisal.Measurements,
			yesNo(k.Policy.Appraisal.AllowSimulated), yesNo(k.Policy.Appraisal.AllowDebug))
		fmt.Fprintf(w, "Policy digest:\t%s\n", k.PolicyDigest)
	})
}

func (a *app) keyGet(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Describe a key of yours; the key itself never leaves but to attested code", Args: cobra.ExactArgs(1),
		Example: "  cloister key get hospital-a/records -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			k, err := n.Key(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showKey(k)
		},
	}
}

func (a *app) keyList(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List your keys", Args: cobra.NoArgs,
		Example: "  cloister key list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			list, err := n.Keys(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tVERSION\tBYTES\tPOLICY\tCHANGED")
				for _, k := range list {
					fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", k.Name, k.Version, k.Bytes, k.Policy.Appraisal.Name, ago(k.Changed))
				}
			})
		},
	}
}

func (a *app) keyRotate(node *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use: "rotate NAME", Short: "Give a key a new version with random bytes", Args: cobra.ExactArgs(1),
		Example: "  cloister key rotate hospital-a/records",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			k, err := n.Rotate(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showKey(k)
		},
	}
}

func (a *app) keyPolicy(node *nodeFlags) *cobra.Command {
	var policy policyFlags
	cmd := &cobra.Command{
		Use: "policy NAME", Short: "Replace a key's release policy; leases it would not give end at their next renewal", Args: cobra.ExactArgs(1),
		Example: "  cloister key policy hospital-a/records --policy stricter.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := policy.read()
			if err != nil {
				return err
			}
			n, err := a.connect(cmd, node)
			if err != nil {
				return err
			}
			defer n.Close()
			k, err := n.SetPolicy(cmd.Context(), args[0], p)
			if err != nil {
				return err
			}
			return a.showKey(k)
		},
	}
	policy.register(cmd)
	return cmd
}
