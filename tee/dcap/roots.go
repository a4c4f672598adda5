package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

//go:embed roots/*.pem
var rootFiles embed.FS

// embeddedFiles lists Intel's certificates that are embedded, with the SHA-256
// of their DER. The first is the root of trust; the others are endorsements that
// it signed, here so that a quote and its collateral verify where nobody kept
// their issuers. roots/README.md has the same table with subjects and dates.
var embeddedFiles = []struct{ file, sha256 string }{
	{"intel_sgx_root_ca.pem", "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"},
	{"intel_sgx_pck_processor_ca.pem", "13b2dccef8fc4ec977ee5249743b0f758ebd1e28d768b2e1e12bc348adaa09fb"},
	{"intel_sgx_pck_platform_ca.pem", "22eb770dca215b607b5ccfc21a672b1da5cc660b1ad0365020567979edcaa0e1"},
	{"intel_sgx_tcb_signing_2018.pem", "ec37d98107bfb7dab6ff8de4d4dda6fde30a6f50b0d7b03eefb5652f1e652969"},
	{"intel_sgx_tcb_signing_2025.pem", "c0575e76d0303b61d09cde8cbdb70db34a74f38318300d7c0e6ba8cf4bf45aea"},
}

// embeddedCertificates parses Intel's certificates. An error is a defect of the
// build.
func embeddedCertificates() ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, len(embeddedFiles))
	for i, f := range embeddedFiles {
		b, err := rootFiles.ReadFile("roots/" + f.file)
		if err != nil {
			return nil, err
		}
		block, rest := pem.Decode(b)
		if block == nil || len(rest) > 0 {
			return nil, fmt.Errorf("%s: want one certificate", f.file)
		}
		sum := sha256.Sum256(block.Bytes)
		if hex.EncodeToString(sum[:]) != f.sha256 {
			return nil, fmt.Errorf("%s: another certificate", f.file)
		}
		if out[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", f.file, err)
		}
	}
	return out, nil
}

// anchors are what a verdict starts from: the roots, and certificates that are
// known beside those that are given.
type anchors struct {
	id    digest // of the roots
	roots []*x509.Certificate
	known []*certificate
}

// anchorsOf returns the anchors for Input.Roots: Intel's for nil. Roots have to
// be self-signed authorities with a P-256 key; any other is refused, because it
// would be a trust that never applies.
func (v *Verifier) anchorsOf(roots tee.Roots) (*anchors, error) {
	if roots == nil {
		return v.embedded()
	}
	a := &anchors{roots: roots}
	for _, r := range roots {
		if r == nil || !r.IsCA || !isP256(r) || r.CheckSignatureFrom(r) != nil {
			return nil, errors.New("a root is not a self-signed P-256 authority")
		}
		a.id = digestOf(a.id, r.Raw)
	}
	return a, nil
}

// embedded are Intel's anchors, parsed once.
func (v *Verifier) embedded() (*anchors, error) {
	v.once.Do(func() {
		certs, err := embeddedCertificates()
		if err != nil {
			v.embeddedErr = fmt.Errorf("embedded roots: %w", err)
			return
		}
		v.intel = &anchors{id: sha256.Sum256([]byte("embedded")), roots: certs[:1]}
		for _, c := range certs[1:] {
			v.intel.known = append(v.intel.known, newCertificate(c, v.intel))
		}
	})
	return v.intel, v.embeddedErr
}

func isP256(c *x509.Certificate) bool {
	k, ok := c.PublicKey.(*ecdsa.PublicKey)
	return ok && k.Curve == elliptic.P256()
}
