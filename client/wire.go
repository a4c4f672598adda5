package client

import (
	"encoding/json"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
)

// Platform is what a client needs to know about a running platform. Nothing in
// it is secret, and a client trusts none of it but a root that it has from
// somebody it trusts.
type Platform struct {
	// Address is the node's HTTPS address.
	Address string `json:"address"`
	// Root is the development root certificate, PEM.
	Root []byte `json:"root"`
	// NodeMeasurement is what the host expects its node to be.
	NodeMeasurement tee.Measurement `json:"node_measurement"`
	Simulated       bool            `json:"simulated"`
	PID             int             `json:"pid"`
}

// CreateRequest is the first part ("create", JSON) of the multipart body of
// POST /v1/instances. The image follows as part "image" unless it is built in,
// then each input of the launch document, in its order, as part "input:NAME".
type CreateRequest struct {
	Name  string       `json:"name"`
	Spec  compute.Spec `json:"spec"`
	Start bool         `json:"start"`
	// DiscardState is for updates; see [compute.Update].
	DiscardState bool `json:"discard_state,omitempty"`
}

// Nonce is the answer of POST /v1/nonce: good for one use within a minute.
type Nonce struct {
	Nonce []byte `json:"nonce"`
}

// PutKey is the body of POST /v1/keys: an import with Material, else a key of
// Bytes random bytes (0: 32). Policy is a keys.Policy.
type PutKey struct {
	Name     string          `json:"name"`
	Material []byte          `json:"material,omitempty"`
	Bytes    int             `json:"bytes,omitempty"`
	Policy   json.RawMessage `json:"policy"`
}

// AccessToken is the answer of POST /v1/access: it names the caller to faces whose
// clients show no certificate, as the Bearer token of a request.
type AccessToken struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// Authority is the answer of GET /v1/authority: the certificate (PEM) under which
// the node's plain HTTPS is, and the one under which it certifies attestation keys of
// TPMs.
type Authority struct {
	Certificate     []byte `json:"certificate"`
	AttestationKeys []byte `json:"attestation_keys,omitempty"`
}

// Identity is the answer of GET /v1/identity: the node's service key (SPKI DER)
// and evidence whose report data is node.ServiceKeyBinding of it.
type Identity struct {
	Key      []byte       `json:"key"`
	Evidence tee.Evidence `json:"evidence"`
}

// AttestContext is the context of the report data that POST /v1/attest wants:
// tee.Bind(AttestContext, nonce, user data).
const AttestContext = "cloister attest v1"

// AttestRequest is the body of POST /v1/attest. Policy is an attest.Policy.
type AttestRequest struct {
	Nonce    []byte       `json:"nonce"`
	Evidence tee.Evidence `json:"evidence,omitzero"`
	// Message is evidence in a conceptual message wrapper (package attest/cmw), in
	// place of Evidence.
	Message  []byte          `json:"message,omitempty"`
	UserData []byte          `json:"user_data,omitempty"`
	Policy   json.RawMessage `json:"policy"`
	// Format is the form of the attestation result: "jwt" (also where it is empty)
	// or "cwt".
	Format string `json:"format,omitempty"`
}

// AttestResult is its answer: an EAR as a JWT, or as a CWT.
type AttestResult struct {
	Token string `json:"token,omitempty"`
	CWT   []byte `json:"cwt,omitempty"`
}

// SignedReceipt is the answer of GET /v1/receipts/{number}: a receipt, signed
// by the node's service key, with evidence that this key is inside the node.
type SignedReceipt struct {
	Receipt   keys.Receipt `json:"receipt"`
	Signature []byte       `json:"signature"` // ES256 (r||s) over ReceiptSigningDigest
	Key       []byte       `json:"key"`
	Evidence  tee.Evidence `json:"evidence"`
}
