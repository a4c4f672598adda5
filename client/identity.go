package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-cc/cloister/attest/channel"
)

// LoadIdentity reads the key pair that identifies a key owner to nodes, and
// makes it the first time. The file (PEM, mode 0600) is all that proves that
// keys are yours: keep a copy. A file that others can read is refused.
func LoadIdentity(path string) (*tls.Certificate, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("open identity: %s can be read by others: chmod 600 it, and make a new one if they may have", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	defer clear(b)
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, fmt.Errorf("open identity %s: %w", path, err)
	}
	return &cert, nil
}

func newIdentity(path string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cloister key owner"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), // RFC 5280 section 4.1.2.5: no expiry
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	defer clear(out)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	if err := writeNew(path, out); errors.Is(err, fs.ErrExist) {
		return LoadIdentity(path) // another process was faster: there is one identity
	} else if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	cert, err := tls.X509KeyPair(out, out)
	return &cert, err
}

// writeNew writes a file, mode 0600, that appears at once and whole, or not at
// all when there is one.
func writeNew(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".identity-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

// IdentityName returns the identity of a key pair as nodes show it: the SHA-256
// of its public key (SPKI DER), hex.
func IdentityName(c *tls.Certificate) (string, error) {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(channel.Identity(leaf)), nil
}
