package keys

import (
	"crypto/hpke"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// suite is how keys travel: HPKE (RFC 9180) with the hybrid KEM
// MLKEM768-X25519, so that traffic recorded today stays closed to a quantum
// computer of tomorrow.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// wrapInfo binds a wrapped key to its release: the nonce and the key's name.
func wrapInfo(nonce []byte, name string) []byte {
	b := tee.Bind("cloister wrap v1", nonce, []byte(name))
	return b[:]
}

// Recipient is the key pair to which keys are released. It lives inside an
// instance and is never stored.
type Recipient struct {
	public []byte
}

// NewRecipient makes a key pair and returns it with its private key, which the
// caller keeps where it keeps secrets and clears when done.
func NewRecipient() (Recipient, []byte, error) {
	kem, _, _ := suite()
	k, err := kem.GenerateKey()
	if err != nil {
		return Recipient{}, nil, fmt.Errorf("generate recipient key: %w", err)
	}
	private, err := k.Bytes()
	if err != nil {
		return Recipient{}, nil, fmt.Errorf("generate recipient key: %w", err)
	}
	return Recipient{public: k.PublicKey().Bytes()}, private, nil
}

// PublicKey returns the encoded public key for [ReleaseRequest].
func (r Recipient) PublicKey() []byte { return r.public }

// Unwrap opens a released key with the recipient's private key. It fails when
// the key was wrapped for another nonce, name or recipient.
func Unwrap(private, nonce []byte, w WrappedKey) ([]byte, error) {
	kem, kdf, aead := suite()
	k, err := kem.NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("unwrap key %s: %w", w.Name, err)
	}
	key, err := hpke.Open(k, kdf, aead, wrapInfo(nonce, w.Name), w.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap key %s: %w", w.Name, err)
	}
	return key, nil
}

// parseRecipient reads the public key of a release request, once for all keys.
func parseRecipient(publicKey []byte) (hpke.PublicKey, error) {
	kem, _, _ := suite()
	return kem.NewPublicKey(publicKey)
}

// wrap encrypts key to the recipient of a release.
func wrap(to hpke.PublicKey, nonce []byte, name string, key []byte) ([]byte, error) {
	_, kdf, aead := suite()
	return hpke.Seal(to, kdf, aead, wrapInfo(nonce, name), key)
}
