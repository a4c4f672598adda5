package node

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"net/http"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
)

type tmpIssuer struct{ key *ecdsa.PrivateKey }

func newIssuer(key *ecdsa.PrivateKey) (*tmpIssuer, error) { return &tmpIssuer{key}, nil }

func (s *service) issue(v *attest.Verified, policy [32]byte) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.issuer.key}, nil)
	if err != nil {
		return "", err
	}
	b, _ := json.Marshal(v.Claims.Tree())
	j, err := signer.Sign(b)
	if err != nil {
		return "", err
	}
	return j.CompactSerialize()
}

func (s *service) jwks() (any, error) {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.issuer.key.Public()}}}, nil
}

// sign signs a receipt with the service key.
func (s *service) sign(r *http.Request, receipt keys.Receipt) (client.SignedReceipt, error) {
	digest := client.ReceiptSigningDigest(receipt)
	x, y, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		return client.SignedReceipt{}, err
	}
	sig := make([]byte, 64)
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	ev, err := evidenceFor(r.Context(), s.enclave, s.spki, nil)
	return client.SignedReceipt{Receipt: receipt, Signature: sig, Key: s.spki, Evidence: ev}, err
}
