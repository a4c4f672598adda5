package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
)

// nodeFlags say which node a command speaks to, as whom, and what the node must
// prove.
type nodeFlags struct {
	address  string
	identity string
	root     string
	policy   string
}

func (n *nodeFlags) register(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&n.address, "node", "", "host:port of the node (default: of the platform on the data directory)")
	f.StringVar(&n.identity, "identity", "", "your key pair; its key owns your keys (default $CLOISTER_IDENTITY or ~/.config/cloister/identity.pem, made the first time)")
	n.registerTrust(cmd)
}

// registerTrust adds the flags that commands without a connection share.
func (n *nodeFlags) registerTrust(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&n.root, "root", "", "development root certificate of a simulated node (default: root.pem in the data directory)")
	f.StringVar(&n.policy, "node-policy", "", "appraisal policy that the node must meet (default: the node of this very build)")
}

// connect returns a client that lets the node prove itself before it sends
// anything.
func (a *app) connect(cmd *cobra.Command, n *nodeFlags) (*client.Node, error) {
	if n.address == "" {
		host, err := a.host()
		if err != nil {
			return nil, err
		}
		p, err := host.Platform(cmd.Context())
		if err != nil {
			return nil, err
		}
		n.address = p.Address
	}
	roots, policy, err := a.nodeTrust(n)
	if err != nil {
		return nil, err
	}
	id, err := loadIdentity(n.identity)
	if err != nil {
		return nil, err
	}
	return client.NewNode(client.NodeConfig{Address: n.address, Identity: id, Roots: roots, Policy: policy})
}

// nodeTrust returns the roots and the policy that a node's evidence is judged
// by.
func (a *app) nodeTrust(n *nodeFlags) (tee.Roots, attest.Policy, error) {
	path := n.root
	if path == "" {
		data, err := a.data()
		if err != nil {
			return nil, attest.Policy{}, err
		}
		path = datadir.Paths{Data: data}.Root()
	}
	roots, err := readRoots(path)
	if err != nil {
		return nil, attest.Policy{}, &coded{status: exitUsage, code: "root", err: err, hint: "name the root certificate you trust: --root FILE"}
	}
	if n.policy != "" {
		p, err := readPolicy(n.policy)
		return roots, p, err
	}
	runtime, err := software.RuntimeDigest()
	if err != nil {
		return nil, attest.Policy{}, err
	}
	return roots, agent.NodePolicy(runtime), nil
}

// readRoots reads PEM or DER certificates.
func readRoots(path string) (tee.Roots, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	var roots tee.Roots
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read roots %s: %w", path, err)
		}
		roots = append(roots, c)
	}
	if len(roots) == 0 {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("read roots %s: neither PEM nor DER certificates", path)
		}
		roots = tee.Roots{c}
	}
	return roots, nil
}

func loadIdentity(path string) (*tls.Certificate, error) {
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, errors.Join(errors.New("no place for your identity is known"), err)
		}
		path = filepath.Join(dir, "cloister", "identity.pem")
	}
	return client.LoadIdentity(path)
}
