package keys

import (
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds of what the key service takes and gives.
const (
	MaxKey         = 64 << 10 // bytes of one key or secret
	MaxReleaseKeys = 128      // keys of one release
	NonceSize      = 32       // bytes
)

// ReleaseRequest asks for keys on behalf of the code that the evidence is of.
// Its JSON form is the body of POST /v1/release.
type ReleaseRequest struct {
	// Nonce is one that the service gave out, not used before.
	Nonce []byte `json:"nonce"`
	// Evidence must carry the report data [ReleaseBinding].
	Evidence tee.Evidence `json:"evidence"`
	// PublicKey is the HPKE public key that released keys are wrapped to.
	PublicKey []byte `json:"public_key"`
	// Keys are the names of the keys.
	Keys []string `json:"keys"`
	// Renew only renews the lease of keys released before: the answer holds no
	// key.
	Renew bool `json:"renew,omitempty"`
	// Boot is the boot token of a machine with a TPM; see [Service.BeginBoot].
	Boot []byte `json:"boot,omitempty"`
}

// ReleaseResponse is the answer: all the keys asked for, or an error.
type ReleaseResponse struct {
	// Expires is the end of the lease by the node's clock, for people. Whoever
	// holds the keys measures LeaseSeconds on a clock that nobody can set back,
	// renews well before, and stops using the keys when it has run out.
	Expires      time.Time `json:"expires"`
	LeaseSeconds int       `json:"lease_seconds"`
	// Keys are in the order of the request, empty for a renewal.
	Keys []WrappedKey `json:"keys,omitempty"`
	// Token is the attestation result (EAR JWT) of the evidence.
	Token string `json:"token"`
	// Receipts are the numbers of the receipts that this release left.
	Receipts []uint64 `json:"receipts"`
}

// WrappedKey is a key that only the attested key can unwrap.
type WrappedKey struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
	Wrapped []byte `json:"wrapped"` // HPKE encapsulated key, then ciphertext
}

// ReleaseBinding is the report data of a release: it ties the service's nonce,
// the HPKE public key, the launch digest and the instance to the evidence.
func ReleaseBinding(nonce, publicKey, launchDigest []byte, instanceID string) [64]byte {
	return tee.Bind("cloister release v1", nonce, publicKey, launchDigest, []byte(instanceID))
}
