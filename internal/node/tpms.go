package node

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"

	"github.com/cloister-cc/cloister/attest/akca"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// tpms certifies attestation keys of TPMs, under the service key.
type tpms struct {
	*akca.Authority
	issuer *x509.Certificate
}

// newTPMs trusts the makers of TPMs that this node knows: the platform of the software
// TEE makes the emulated ones, root is its certificate.
func newTPMs(key *ecdsa.PrivateKey, root []byte, began func(*tpm.Public, []byte) ([]byte, error)) (*tpms, error) {
	issuer, err := akca.NewIssuer(key)
	if err != nil {
		return nil, err
	}
	var makers tee.Input
	if len(root) > 0 {
		c, err := x509.ParseCertificate(root)
		if err != nil {
			return nil, fmt.Errorf("parse development root: %w", err)
		}
		makers.Roots = tee.Roots{c}
	}
	return &tpms{issuer: issuer, Authority: akca.New(akca.Config{Issuer: issuer, Signer: key, Makers: func() tee.Input { return makers }, Began: began})}, nil
}

func (t *tpms) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.issuer.Raw})
}

// routes are those of the attestation CA.
func (t *tpms) routes(handle func(string, func(*http.Request) (any, error))) {
	handle("POST "+akca.PathChallenge, func(r *http.Request) (any, error) {
		var req akca.ChallengeRequest
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		return t.Challenge(req)
	})
	handle("POST "+akca.PathCertify, func(r *http.Request) (any, error) {
		var req akca.CertifyRequest
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		return t.Certify(req)
	})
}

// codeOtherNode refuses an instance that believes another node than this one: it could
// take secrets from both, and mix them.
const codeOtherNode tee.Code = "other_node"

// admit refuses an instance that was told to take its secrets from another node.
func (s *service) admit(c tee.Claims) error {
	if !c.LaunchByGuest {
		return nil
	}
	self := s.enclave.Self()
	root := sha256.Sum256(self.Root)
	want := hex.EncodeToString(root[:]) + " " + hex.EncodeToString(self.RuntimeDigest)
	got := fmt.Sprint(c.Vendor["node_root"], " ", c.Vendor["node_runtime"])
	if got == want {
		return nil
	}
	return &tee.VerifyError{Kind: c.TEE, Failures: []tee.Failure{{
		Code: codeOtherNode, Claim: "node", Want: want, Got: got, Hint: "its host told the instance of another node; start it again on this platform",
	}}}
}
