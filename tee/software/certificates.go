package software

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// rootName is the common name of every development root. A name proves nothing:
// any platform, and anyone else, can use it.
const rootName = "Cloister Software TEE Development Root (SIMULATED)"

// validity of the certificates: a platform lives as long as its directory.
const validity = 30 * 365 * 24 * time.Hour

// issueRoot returns the self-signed development root certificate, DER.
func issueRoot(key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	t, err := template(rootName, now)
	if err != nil {
		return nil, err
	}
	t.IsCA = true
	t.MaxPathLenZero = true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("issue root certificate: %w", err)
	}
	return der, nil
}

// issuePlatform returns the certificate of a platform's attestation key, DER.
func issuePlatform(root []byte, rootKey *ecdsa.PrivateKey, pub *ecdsa.PublicKey, now time.Time) ([]byte, error) {
	issuer, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, fmt.Errorf("issue platform certificate: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("issue platform certificate: %w", err)
	}
	id := sha256.Sum256(spki)
	t, err := template("Cloister Software TEE Platform "+hex.EncodeToString(id[:8])+" (SIMULATED)", now)
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidAttest}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, pub, rootKey)
	if err != nil {
		return nil, fmt.Errorf("issue platform certificate: %w", err)
	}
	return der, nil
}

func template(name string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)), // RFC 5280 section 4.1.2.2: positive
		Subject:               pkix.Name{Organization: []string{"Cloister"}, CommonName: name},
		NotBefore:             now.Add(-time.Hour), // a relying party's clock may be behind
		NotAfter:              now.Add(validity),
		BasicConstraintsValid: true,
	}, nil
}
