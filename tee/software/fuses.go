//go:build linux

package software

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// The files of a platform directory.
const (
	fusesFile    = "fuses"
	fusesNew     = "fuses.new" // exists only until a new platform is complete
	rootFile     = "root.pem"
	countersFile = "counters"
	anchorFile   = "anchor"
	maxFuses     = 16 << 10
)

// fuses is what never changes: the identity of a platform.
type fuses struct {
	Version             uint8  `cbor:"1,keyasint"`
	Secret              []byte `cbor:"2,keyasint"` // 32 bytes; root of sealing keys and of the counters' MACs
	RootKey             []byte `cbor:"3,keyasint"` // P-256 scalar
	PlatformKey         []byte `cbor:"4,keyasint"` // P-256 scalar
	RootCertificate     []byte `cbor:"5,keyasint"` // DER
	PlatformCertificate []byte `cbor:"6,keyasint"` // DER

	platformKey *ecdsa.PrivateKey
}

// checked is the form of the file: the fuses' encoding and its SHA-256, which
// tells damage (not forgery; whoever can write the file owns the platform).
type checked struct {
	_      struct{} `cbor:",toarray"`
	Body   []byte
	Digest [32]byte
}

// loadFuses reads the fuses, or makes a new platform in an empty directory.
//
// A new platform is written as fuses.new, then counters and anchor, and becomes
// valid when fuses.new is renamed to fuses. So fuses.new without fuses is an
// interrupted beginning that nobody has used yet, and is begun again; other
// files without fuses mean that the fuses were lost, and are refused.
func loadFuses(d *directory, now time.Time) (fuses, error) {
	b, err := d.read(fusesFile, maxFuses)
	if err == nil {
		f, err := parseFuses(b)
		if err != nil {
			return fuses{}, fusesError(d, err)
		}
		return f, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fuses{}, fusesError(d, err)
	}
	begun, err := d.exists(fusesNew)
	if err != nil {
		return fuses{}, diskError(d, "read", err)
	}
	for _, name := range []string{countersFile, anchorFile, rootFile} {
		if there, err := d.exists(name); err != nil {
			return fuses{}, diskError(d, "read", err)
		} else if there && !begun {
			return fuses{}, fusesError(d, fmt.Errorf("file fuses is missing beside %s", name))
		}
	}
	f, err := newFuses(now)
	if err != nil {
		return fuses{}, diskError(d, "make", err)
	}
	if err := burn(d, f); err != nil {
		return fuses{}, diskError(d, "make", err)
	}
	return f, nil
}

// burn writes a new platform.
func burn(d *directory, f fuses) error {
	body, err := encode(f)
	if err != nil {
		return err
	}
	b, err := encode(checked{Body: body, Digest: sha256.Sum256(body)})
	if err != nil {
		return err
	}
	if err := d.write(fusesNew, b, 0o600); err != nil {
		return err
	}
	// Its name must be durable before those of the counters: it is what tells a
	// beginning from a loss.
	if err := d.sync(); err != nil {
		return err
	}
	if err := createCounters(d, f.Secret); err != nil {
		return err
	}
	_, err = d.rename(fusesNew, fusesFile)
	return err
}

func newFuses(now time.Time) (fuses, error) {
	f := fuses{Version: 1, Secret: make([]byte, 32)}
	rand.Read(f.Secret) // never fails
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fuses{}, err
	}
	if f.platformKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fuses{}, err
	}
	if f.RootKey, err = rootKey.Bytes(); err != nil {
		return fuses{}, err
	}
	if f.PlatformKey, err = f.platformKey.Bytes(); err != nil {
		return fuses{}, err
	}
	if f.RootCertificate, err = issueRoot(rootKey, now); err != nil {
		return fuses{}, err
	}
	f.PlatformCertificate, err = issuePlatform(f.RootCertificate, rootKey, &f.platformKey.PublicKey, now)
	return f, err
}

// parseFuses reads the file and checks that its parts belong together.
func parseFuses(b []byte) (fuses, error) {
	outer, err := decode[checked](b, maxFuses)
	if err != nil {
		return fuses{}, err
	}
	if sha256.Sum256(outer.Body) != outer.Digest {
		return fuses{}, errors.New("checksum does not match")
	}
	f, err := decode[fuses](outer.Body, maxFuses)
	if err != nil {
		return fuses{}, err
	}
	if f.Version != 1 || len(f.Secret) != 32 {
		return fuses{}, fmt.Errorf("version %d with a secret of %d bytes, want 1 and 32", f.Version, len(f.Secret))
	}
	rootKey, root, err := keyAndCertificate(f.RootKey, f.RootCertificate)
	if err != nil {
		return fuses{}, fmt.Errorf("root: %w", err)
	}
	platformKey, platform, err := keyAndCertificate(f.PlatformKey, f.PlatformCertificate)
	if err != nil {
		return fuses{}, fmt.Errorf("platform: %w", err)
	}
	if err := platform.CheckSignatureFrom(root); err != nil || platformKey.Equal(rootKey) {
		return fuses{}, errors.New("platform certificate is not the root's")
	}
	f.platformKey = platformKey
	return f, nil
}

func keyAndCertificate(scalar, der []byte) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, errors.New("key and certificate do not match")
	}
	return key, cert, nil
}

// publishRoot writes root.pem unless it says the right thing already.
func publishRoot(d *directory, der []byte) error {
	want := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if have, err := d.read(rootFile, maxFuses); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if _, err := d.replace(rootFile, want, 0o644); err != nil {
		return diskError(d, "publish root certificate of", err)
	}
	return nil
}

// fusesError refuses damaged fuses.
func fusesError(d *directory, err error) error {
	return &tee.Error{
		Code: tee.CodeParse, Op: "read fuses of platform " + d.path, Err: err,
		Hint: "restore the whole directory from a copy, or remove it: a new platform has a new root and opens nothing that this one sealed",
	}
}

// diskError is a failure of the disk.
func diskError(d *directory, what string, err error) error {
	return &tee.Error{Code: tee.CodeUnavailable, Op: what + " platform " + d.path, Err: err}
}
