package collateral

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// bundleFormat names the format in a file.
const bundleFormat = "cloister collateral bundle v1"

// Bounds of a bundle.
const (
	MaxBundle = 16 << 20 // bytes of the file
	MaxItems  = 4096
)

// ErrBundle is wrapped by every error of [ParseBundle].
var ErrBundle = errors.New("invalid collateral bundle")

// Bundle is endorsements of any number of platforms, each with where and when it
// was fetched. Its maker signs it, so that a machine without a network can tell
// whose word the fetch times are; what the items are worth, their vendors'
// signatures say.
type Bundle struct {
	CreatedAt time.Time `json:"created_at"`
	Items     []Item    `json:"items"`
	// Signer is the key that signed the bundle; nil before it is signed.
	Signer *ecdsa.PublicKey `json:"-"`
}

// envelope is a bundle as it is written.
type envelope struct {
	Format    string `json:"format"`
	Payload   []byte `json:"payload"`   // JSON of the bundle
	Key       []byte `json:"key"`       // SubjectPublicKeyInfo, DER
	Signature []byte `json:"signature"` // ECDSA P-256 with SHA-256, ASN.1, over format, NUL, payload
}

func signingDigest(payload []byte) []byte {
	h := sha256.New()
	h.Write([]byte(bundleFormat + "\x00"))
	h.Write(payload)
	return h.Sum(nil)
}

// NewBundle puts items together: of versions of one thing the newest.
func NewBundle(now time.Time, items []Item) Bundle {
	return Bundle{CreatedAt: now.UTC().Truncate(time.Second), Items: newest(items)}
}

// Sign writes the bundle, signed with a P-256 key.
func (b Bundle) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return nil, errors.New("sign bundle: want a P-256 key")
	}
	payload, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	e := envelope{Format: bundleFormat, Payload: payload}
	if e.Key, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	if e.Signature, err = ecdsa.SignASN1(rand.Reader, key, signingDigest(payload)); err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	out, err := json.MarshalIndent(e, "", " ")
	return append(out, '\n'), err
}

// IsBundle reports whether a file starts as a bundle does.
func IsBundle(b []byte) bool {
	head := b[:min(len(b), 256)]
	return bytes.Contains(head, []byte(bundleFormat)) && bytes.HasPrefix(bytes.TrimSpace(head), []byte("{"))
}

// ParseBundle reads a bundle, verifies its signature by the key in it, which is
// then in Signer, and compares every item with its digest and dates. Whether the
// signer is the right one is for the caller to say.
func ParseBundle(b []byte) (Bundle, error) {
	bad := func(format string, a ...any) (Bundle, error) {
		return Bundle{}, fmt.Errorf("%w: %s", ErrBundle, fmt.Sprintf(format, a...))
	}
	if len(b) > MaxBundle {
		return bad("%d bytes, at most %d", len(b), MaxBundle)
	}
	var e envelope
	if err := attest.DecodeStrict(b, &e); err != nil {
		return bad("%v", err)
	}
	if e.Format != bundleFormat {
		return bad("format %.64q, want %q", e.Format, bundleFormat)
	}
	parsed, err := x509.ParsePKIXPublicKey(e.Key)
	key, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return bad("its key is not one on P-256")
	}
	if !ecdsa.VerifyASN1(key, signingDigest(e.Payload), e.Signature) {
		return bad("the signature is not by its key: it was altered")
	}
	bundle := Bundle{Signer: key}
	if err := attest.DecodeStrict(e.Payload, &bundle); err != nil {
		return bad("%v", err)
	}
	if len(bundle.Items) > MaxItems {
		return bad("%d items, at most %d", len(bundle.Items), MaxItems)
	}
	for _, i := range bundle.Items {
		if err := i.check(); err != nil {
			return bad("%v", err)
		}
	}
	return bundle, nil
}

// Digest is the SHA-256 that names the items of a bundle, whenever and by
// whomever it was made: over each item's kind, name and digest.
func (b Bundle) Digest() [32]byte {
	h := sha256.New()
	h.Write([]byte("cloister collateral v1\n"))
	for _, i := range newest(b.Items) {
		fmt.Fprintf(h, "%q %q %s\n", string(i.Kind), i.Name, i.Digest)
	}
	return [32]byte(h.Sum(nil))
}

// SignerName is the SHA-256 of the key that signed the bundle, hex; empty
// without one.
func (b Bundle) SignerName() string {
	if b.Signer == nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(b.Signer)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Endorsements are what a verifier takes of the bundle.
func (b Bundle) Endorsements() (tee.Endorsements, error) {
	var e tee.Endorsements
	err := b.addTo(&e)
	return e, err
}

func (b Bundle) addTo(e *tee.Endorsements) error {
	for _, i := range b.Items {
		if err := i.add(e); err != nil {
			return err
		}
	}
	return nil
}
