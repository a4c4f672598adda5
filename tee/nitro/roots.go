package nitro

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
)

//go:embed roots/aws_nitro_root_g1.pem
var rootG1 []byte

// rootG1Fingerprint is the SHA-256 of the DER of AWS's root G1, as AWS publishes
// it beside the certificate. roots/README.md has it too.
const rootG1Fingerprint = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

// embeddedRoot parses AWS's root. An error is a defect of the build.
func embeddedRoot() (*x509.Certificate, error) {
	block, rest := pem.Decode(rootG1)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return nil, errors.New("not one certificate")
	}
	if fingerprint(block.Bytes) != rootG1Fingerprint {
		return nil, errors.New("the embedded root is another one")
	}
	return x509.ParseCertificate(block.Bytes)
}

// fingerprint is the SHA-256 of a certificate in hex.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
