package maa

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
)

// challengeLifetime is how long a challenge of the TPM protocol is good for.
const challengeLifetime = 5 * time.Minute

// challenges makes the challenges of the TPM protocol. What has to be remembered
// of one travels, encrypted, with the client. The key is of this process.
type challenges struct{ key [32]byte }

// tpmMessage is a message of the TPM protocol, in the member data of a call. The
// page of the protocol shows what is in payload alone, the clients' documents
// with payload around it; both are taken, and answered in kind.
type tpmMessage struct {
	Payload *tpmPayload `json:"payload"`
	tpmPayload
}

type tpmPayload struct {
	Type    string `json:"type"`
	Request string `json:"request"`
}

// attestTPM answers the first message of the protocol with a challenge.
func (s *Service) attestTPM(b []byte) (any, error) {
	var w struct {
		Data string `json:"data"`
	}
	if err := attest.DecodeExact(b, &w, "data"); err != nil {
		return nil, badRequest("the body is not the JSON of this attestation type", err.Error())
	}
	data, err := azurepolicy.DecodeBase64(w.Data)
	if err != nil {
		return nil, badRequest("data: want base64url of JSON", "")
	}
	var m tpmMessage
	if err := attest.DecodeExact(data, &m, "payload", "type", "request"); err != nil {
		return nil, badRequest("data: want base64url of a message of the TPM protocol", err.Error())
	}
	payload, wrapped := m.tpmPayload, m.Payload != nil
	if wrapped {
		payload = *m.Payload
	}
	switch {
	case payload.Request != "":
		return nil, &serviceError{status: http.StatusNotImplemented, Code: "NotSupported", Message: "claims that Windows makes of a TPM are not read; for quotes of TPMs ask the native interface: cloister attest verify"}
	case payload.Type != "aikcert":
		return nil, badRequest("type: want aikcert", "")
	}
	challenge, context, err := s.challenges.make(s.cfg.Now())
	if err != nil {
		return nil, err
	}
	var answer any = map[string]string{"challenge": encode64(challenge), "service_context": encode64(context)}
	if wrapped {
		answer = map[string]any{"payload": answer}
	}
	out, err := json.Marshal(answer)
	return map[string]string{"data": encode64(out)}, err
}

// make returns a challenge, and the context that its answer brings back: the
// challenge and its end, encrypted.
func (c *challenges) make(now time.Time) (challenge, context []byte, err error) {
	block, err := aes.NewCipher(c.key[:])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, nil, err
	}
	challenge = make([]byte, 32)
	if _, err := rand.Read(challenge); err != nil {
		return nil, nil, err
	}
	plain := binary.BigEndian.AppendUint64(append([]byte(nil), challenge...), uint64(now.Add(challengeLifetime).Unix()))
	return challenge, aead.Seal(nil, nil, plain, []byte("cloister maa tpm challenge v1")), nil //nolint:gosec // NewGCMWithRandomNonce makes its own nonce, and wants nil here
}
