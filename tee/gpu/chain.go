package gpu

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

//go:embed roots/nvidia_device_identity_ca.pem
var deviceRoot []byte

// deviceRootFingerprint is the SHA-256 of the root's DER; see roots/README.md.
const deviceRootFingerprint = "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"

// anchors returns the trusted roots: Input.Roots, or NVIDIA's. An error about the
// latter is a defect of the build.
func anchors(roots tee.Roots) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if roots == nil {
		block, rest := pem.Decode(deviceRoot)
		if block == nil || len(rest) > 0 || fingerprint(block.Bytes) != deviceRootFingerprint {
			return nil, errors.New("the embedded root is another one")
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(root)
		return pool, nil
	}
	for _, r := range roots {
		if r == nil {
			return nil, errors.New("an empty root")
		}
		pool.AddCert(r)
	}
	return pool, nil
}

// fingerprint is the SHA-256 of a certificate in hex.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// chain is what leads from a root to the key that signed a report.
type chain struct {
	leaf   *x509.Certificate // of the firmware, issued by the device
	device *x509.Certificate // of the device, issued by NVIDIA
	key    *ecdsa.PublicKey
}

// checkChain follows the certificates that came along, the firmware's first, to a
// root. It returns what there is, and lists what is wrong.
func (c *check) checkChain(certificates [][]byte, in tee.Input) *chain {
	if len(certificates) < 2 || len(certificates) > maxCertificates {
		c.fail(tee.CodeChain, "certificates", fmt.Sprintf("2 to %d, the firmware's first", maxCertificates), fmt.Sprint(len(certificates)), "give the chain that the device has")
		return nil
	}
	var parsed []*x509.Certificate
	for i, der := range certificates {
		cert, err := parseCertificate(der)
		if err != nil {
			c.fail(tee.CodeParse, fmt.Sprintf("certificate %d", i), "DER", fmt.Sprintf("%.200q", err.Error()), "")
			return nil
		}
		parsed = append(parsed, cert)
	}
	out := &chain{leaf: parsed[0], device: parsed[1]}
	key, ok := out.leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || out.leaf.IsCA || out.leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		c.fail(tee.CodeChain, "certificate 0", "of a key on P-384 that signs, and of no authority", "another one", "")
		return nil
	}
	out.key = key
	pool, err := anchors(in.Roots)
	if err != nil {
		c.fail(tee.CodeChain, "roots", "NVIDIA's", err.Error(), "this build, or the roots that were given, are defective")
		return out
	}
	intermediates := x509.NewCertPool()
	for _, cert := range parsed[1:] {
		intermediates.AddCert(cert)
	}
	chains, err := out.leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, CurrentTime: in.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	switch {
	case isExpired(err):
		c.fail(tee.CodeExpired, "certificates", "valid at "+in.At.UTC().Format("2006-01-02"), "not valid", "")
	case err != nil:
		c.fail(tee.CodeChain, "certificates", "a chain to NVIDIA's device identity root", fmt.Sprintf("%.200s", err.Error()), "")
	case !slices.ContainsFunc(chains, func(l []*x509.Certificate) bool { return len(l) > 2 && l[1].Equal(out.device) }):
		c.fail(tee.CodeChain, "certificate 1", "the issuer of certificate 0", "another one", "give the chain in the order that the device has")
	}
	return out
}

func isExpired(err error) bool {
	e, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && e.Reason == x509.Expired
}

func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("%d bytes", len(der))
	}
	return x509.ParseCertificate(der)
}

// oidFWID is TCG's extension that names the firmware which a certificate is for
// ("DICE Certificate Profiles", composite device id).
func oidFWID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1} }

// firmware is the digest of the firmware that a certificate is for, nil if it does
// not say.
func firmware(cert *x509.Certificate) ([]byte, error) {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidFWID()) {
			continue
		}
		var id struct {
			Version int
			Key     asn1.RawValue
			FWID    struct {
				Hash   asn1.ObjectIdentifier
				Digest []byte
			}
		}
		if rest, err := asn1.Unmarshal(e.Value, &id); err != nil || len(rest) > 0 || len(id.FWID.Digest) == 0 {
			return nil, errors.New("the firmware's id cannot be read")
		}
		return id.FWID.Digest, nil
	}
	return nil, nil
}
