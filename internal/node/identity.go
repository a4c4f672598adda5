package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/tee"
)

const (
	serviceKeyFile = "service-key.sealed"
	serviceKeyUse  = "cloister node service key"
)

// serviceKey is the key with which this node signs results and receipts. It is
// made the first time, and sealed to this code.
func serviceKey(e *enclave.Enclave) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(e.StateDir(), serviceKeyFile)
	blob, err := os.ReadFile(path)
	if err == nil {
		der, err := e.Unseal(blob, []byte(serviceKeyUse))
		if err != nil {
			return nil, sealedByOther(err)
		}
		return x509.ParseECPrivateKey(der)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read service key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if blob, err = e.Seal(tee.SealToMeasurement(), der, []byte(serviceKeyUse)); err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(path, blob, 0o600); err != nil {
		return nil, fmt.Errorf("store service key: %w", err)
	}
	return key, nil
}

// sealedByOther adds what to do when another build's state is found.
func sealedByOther(err error) error {
	if errors.Is(err, &tee.Error{Code: tee.CodeSealed}) {
		return &tee.Error{
			Code: tee.CodeSealed, Op: "open the node's state", Err: err,
			Hint: "it was altered, or another build of cloister made it: run that build, or start with a new --data-dir",
		}
	}
	return err
}

// certificate makes the TLS certificate of this process: self-signed, its key
// never stored. Who the peer is, evidence says.
func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "cloister node"},
		DNSNames:     []string{"localhost", "cloister"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// evidenceFor vouches for the service key, over a client's nonce or none.
func evidenceFor(ctx context.Context, e *enclave.Enclave, spki, nonce []byte) (tee.Evidence, error) {
	return e.RawAttester().Evidence(ctx, client.ServiceKeyBinding(spki, nonce))
}
