package nitrotest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/fxamacker/cbor/v2"
)

// Enclave is an enclave: the key that the hypervisor signs its documents with,
// the chain that vouches for it, and what every document says.
type Enclave struct {
	// Template is what documents have; the fields of requests are put in.
	Template Fields
	key      *ecdsa.PrivateKey
}

// Fields are the fields of a document. Any of them may be wrong.
type Fields struct {
	ModuleID    string            `cbor:"module_id"`
	Digest      string            `cbor:"digest"`
	Timestamp   uint64            `cbor:"timestamp"`
	PCRs        map[uint64][]byte `cbor:"pcrs"`
	Certificate []byte            `cbor:"certificate"`
	CABundle    [][]byte          `cbor:"cabundle"`
	PublicKey   []byte            `cbor:"public_key"`
	UserData    []byte            `cbor:"user_data"`
	Nonce       []byte            `cbor:"nonce"`
}

// Enclave returns a good enclave on the instance of a.
func (a *AWS) Enclave(tb testing.TB) *Enclave {
	tb.Helper()
	leaf := NewAuthority(tb, a.Instance, Options{Name: "i-0123456789abcdef0-enc0123456789abcdef.us-test-1.aws", Leaf: true})
	return NewEnclave(leaf, a.Root, a.Region, a.Zone, a.Instance)
}

// NewEnclave returns an enclave whose documents are signed with leaf's key and
// have the given bundle, the root first.
func NewEnclave(leaf *Authority, bundle ...*Authority) *Enclave {
	e := &Enclave{key: leaf.key}
	e.Template = Fields{
		ModuleID: "i-0123456789abcdef0-enc0123456789abcdef", Digest: "SHA384", Timestamp: uint64(At.UnixMilli()),
		PCRs: make(map[uint64][]byte), Certificate: leaf.Certificate.Raw,
	}
	for i := range uint64(16) {
		e.Template.PCRs[i] = make([]byte, 48)
		if i < 5 {
			e.Template.PCRs[i] = bytes.Repeat([]byte{byte(i + 1)}, 48)
		}
	}
	for _, b := range bundle {
		e.Template.CABundle = append(e.Template.CABundle, b.Certificate.Raw)
	}
	return e
}

// Fields returns a copy of the template, to be changed.
func (e *Enclave) Fields() Fields {
	f := e.Template
	f.PCRs = make(map[uint64][]byte, len(e.Template.PCRs))
	for i, v := range e.Template.PCRs {
		f.PCRs[i] = bytes.Clone(v)
	}
	f.CABundle = append([][]byte(nil), e.Template.CABundle...)
	return f
}

// Evidence returns evidence with a document of the given fields.
func (e *Enclave) Evidence(tb testing.TB, f Fields) tee.Evidence {
	tb.Helper()
	payload, err := cbor.Marshal(f)
	if err != nil {
		tb.Fatal(err)
	}
	return e.Sign(tb, payload)
}

// Sign returns evidence with a payload of any bytes, signed by the enclave.
func (e *Enclave) Sign(tb testing.TB, payload []byte) tee.Evidence {
	tb.Helper()
	b, err := e.sign(payload)
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Evidence{Kind: tee.Nitro, Data: b}
}

func (e *Enclave) sign(payload []byte) ([]byte, error) {
	protected := []byte{0xA1, 0x01, 0x38, 0x22} // {1: -35}, ES384
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, payload})
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum384(signed)
	r, s, err := ecdsa.Sign(rand.Reader, e.key, sum[:])
	if err != nil {
		return nil, err
	}
	n := (e.key.Curve.Params().BitSize + 7) / 8
	signature := append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
	return cbor.Marshal([]any{protected, map[uint64]any{}, payload, signature})
}

// NSM returns the security module of the enclave, as [nitro.NewAttester] takes
// it. Response, when not nil, sees each response and returns another.
func (e *Enclave) NSM(response func([]byte) ([]byte, error)) nitro.NSM {
	return &module{enclave: e, change: response}
}

// module answers as the device does: it knows one request.
type module struct {
	enclave *Enclave
	change  func([]byte) ([]byte, error)
	closed  bool
}

// Exchange answers a request.
func (m *module) Exchange(request []byte) ([]byte, error) {
	if m.closed {
		return nil, errors.New("device is closed")
	}
	response, err := m.answer(request)
	if err != nil || m.change == nil {
		return response, err
	}
	return m.change(response)
}

func (m *module) answer(request []byte) ([]byte, error) {
	var r map[string]nitro.Request
	if len(request) > nitro.MaxNSMRequest {
		return nil, errors.New("message too long")
	}
	if err := cbor.Unmarshal(request, &r); err != nil || len(r) != 1 {
		return cbor.Marshal(map[string]string{"Error": "InvalidArgument"})
	}
	a, ok := r["Attestation"]
	if !ok {
		return cbor.Marshal(map[string]string{"Error": "InvalidOperation"})
	}
	f := m.enclave.Fields()
	f.UserData, f.Nonce, f.PublicKey = a.UserData, a.Nonce, a.PublicKey
	payload, err := cbor.Marshal(f)
	if err != nil {
		return nil, err
	}
	document, err := m.enclave.sign(payload)
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(map[string]any{"Attestation": map[string]any{"document": document}})
}

// Close makes further requests fail.
func (m *module) Close() error {
	m.closed = true
	return nil
}
