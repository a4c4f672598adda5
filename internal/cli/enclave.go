package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/tee/launch"
)

func (a *app) enclaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "enclave", Short: "Sign and inspect programs for instances", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.enclaveSign(), a.enclaveInspect())
	return cmd
}

// signed is the output of `enclave sign` and `enclave inspect`.
type signed struct {
	Kind      string `json:"kind"`
	Digest    string `json:"digest"`
	Bytes     int    `json:"bytes"`
	Signer    string `json:"signer,omitempty"`
	Product   uint32 `json:"product,omitempty"`
	SVN       uint32 `json:"svn,omitempty"`
	Signature string `json:"signature_file,omitempty"`
}

func (s signed) table(w io.Writer) {
	fmt.Fprintf(w, "Image:\t%s sha256:%s (%d bytes)\n", s.Kind, s.Digest, s.Bytes)
	if s.Signer != "" {
		fmt.Fprintf(w, "Signer:\t%s\nProduct:\t%d\nSVN:\t%d\n", s.Signer, s.Product, s.SVN)
	}
	if s.Signature != "" {
		fmt.Fprintf(w, "Signature:\t%s\n", s.Signature)
	}
}

func (a *app) enclaveSign() *cobra.Command {
	var keyFile, out string
	var product, svn uint32
	cmd := &cobra.Command{
		Use: "sign IMAGE --key FILE", Short: "Sign a program as a version of a product",
		Long: "Sign writes a signature beside the image. What code of the same signer and product\n" +
			"seals to its signer, a version with the same or a higher SVN can open again.\n" +
			"The key (P-256, PEM) is made when the file does not exist.",
		Example: "  cloister enclave sign app.wasm --key signer.pem --product 1 --svn 2",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if keyFile == "" {
				return usageError("--key is missing", "name your signing key: --key signer.pem")
			}
			image, kind, err := readImage(args[0])
			if err != nil {
				return err
			}
			key, err := signerKey(keyFile)
			if err != nil {
				return err
			}
			digest := sha256.Sum256(image)
			sig, err := launch.SignImage(key, digest[:], product, svn)
			if err != nil {
				return err
			}
			if out == "" {
				out = args[0] + ".sig"
			}
			if err := renameio.WriteFile(out, sig, 0o644); err != nil {
				return fmt.Errorf("write signature: %w", err)
			}
			s, err := inspect(image, kind, sig)
			if err != nil {
				return err
			}
			s.Signature = out
			return a.show(s, s.table)
		},
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "key", "", "signing key (P-256, PEM PKCS#8)")
	f.StringVar(&out, "to", "", "file to write (default IMAGE.sig)")
	f.Uint32Var(&product, "product", 0, "product number")
	f.Uint32Var(&svn, "svn", 0, "security version number")
	return cmd
}

func (a *app) enclaveInspect() *cobra.Command {
	var signature string
	cmd := &cobra.Command{
		Use: "inspect IMAGE", Short: "Show a program's kind, digest and verified signature", Args: cobra.ExactArgs(1),
		Example: "  cloister enclave inspect app.wasm --signature app.wasm.sig",
		RunE: func(_ *cobra.Command, args []string) error {
			image, kind, err := readImage(args[0])
			if err != nil {
				return err
			}
			var sig []byte
			if signature != "" {
				if sig, err = os.ReadFile(signature); err != nil {
					return &coded{status: exitUsage, code: "signature_file", err: err}
				}
			}
			s, err := inspect(image, kind, sig)
			if err != nil {
				return err
			}
			return a.show(s, s.table)
		},
	}
	cmd.Flags().StringVar(&signature, "signature", "", "signature to verify")
	return cmd
}

func inspect(image []byte, kind launch.ImageKind, sig []byte) (signed, error) {
	d := launch.New(kind, image)
	s := signed{Kind: string(kind), Digest: hex.EncodeToString(d.Image.Digest), Bytes: len(image)}
	if sig == nil {
		return s, nil
	}
	d, err := d.Signed(sig)
	if err != nil {
		return s, &coded{status: exitRefused, code: "signature", err: err}
	}
	s.Signer, s.Product, s.SVN = hex.EncodeToString(d.Signer), d.Product, d.SVN
	return s, nil
}

// signerKey reads a signing key, or makes one.
func signerKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSignerKey(path)
	}
	if err != nil {
		return nil, err
	}
	defer clear(b)
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, usageError("--key: "+path+" is not PEM", "")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, usageError("--key: "+path+" is not a PKCS#8 key", "")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, usageError("--key: want a P-256 key", "")
	}
	return key, nil
}

func newSignerKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(out)
	if err := renameio.WriteFile(path, out, 0o600); err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return key, nil
}
