package node

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
)

// newIssuer states this node's verdicts under its service key.
func newIssuer(key *ecdsa.PrivateKey) (*attest.Issuer, error) {
	kid, err := attest.Thumbprint(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return attest.NewIssuer(attest.IssuerConfig{Name: client.NodeIssuer(kid), Key: key, Build: "cloister node", Now: time.Now})
}

// issue makes the attestation result of a release. It is for no audience in
// particular: whoever relies on it names the policy that it wants.
func (s *service) issue(v *attest.Verified, policy [32]byte) (keys.Token, error) {
	id := attest.NewTokenID()
	text, err := s.issuer.Issue(v, policy, attest.IssueOptions{ID: id})
	return keys.Token{Text: text, ID: tokenID(id)}, err
}

// tokenID is how a token's identifier is written in records, also that of a CWT.
func tokenID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

func (s *service) jwks() (any, error) { return s.issuer.JWKS(), nil }

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
