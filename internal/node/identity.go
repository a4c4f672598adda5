package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

// evidenceFor vouches for the service key, over a client's nonce or none.
func evidenceFor(ctx context.Context, e *enclave.Enclave, spki, nonce []byte) (tee.Evidence, error) {
	return e.RawAttester().Evidence(ctx, client.ServiceKeyBinding(spki, nonce))
}
