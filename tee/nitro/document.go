package nitro

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
)

// digestSHA384 is the only value of the field digest.
const digestSHA384 = "SHA384"

// pcrSize is the size of a PCR in bytes. AWS's specification also has 32 and 64,
// for digests that are not SHA-384.
const pcrSize = 48

// tagSign1 is the CBOR tag of COSE_Sign1 (RFC 9052 section 2). Documents of the
// NSM come without it.
const tagSign1 = 0xD2

// protectedES384 is the one protected header that a document has: the map
// {1: -35}, algorithm ECDSA with SHA-384.
var protectedES384 = []byte{0xA1, 0x01, 0x38, 0x22}

// headES384 is how a document begins: an array of four, the protected header, and
// an unprotected header that is empty. Comparing bytes leaves one way to write it.
func headES384() []byte { return append(append([]byte{0x84, 0x44}, protectedES384...), 0xA0) }

// Document is a parsed attestation document. Nothing in it is true until
// [Verifier.Verify] said so. Optional fields are nil when they are absent or null.
type Document struct {
	ModuleID    string            `cbor:"module_id"`
	Timestamp   uint64            `cbor:"timestamp"` // milliseconds since 1970
	Digest      string            `cbor:"digest"`
	PCRs        map[uint64][]byte `cbor:"pcrs"`
	Certificate []byte            `cbor:"certificate"` // DER
	CABundle    [][]byte          `cbor:"cabundle"`    // DER, the root first
	PublicKey   []byte            `cbor:"public_key"`
	UserData    []byte            `cbor:"user_data"`
	Nonce       []byte            `cbor:"nonce"`

	payload   []byte // as signed
	signature []byte // r and s, 48 bytes each, big endian
}

// Debug reports whether the enclave runs in debug mode: then PCR0 is all zero.
func (d *Document) Debug() bool { return allZero(d.PCRs[0]) }

// decoding is the CBOR mode of everything that is read here, made once: nothing
// that can be written in two ways. Real documents have definite lengths only.
var decoding = sync.OnceValue(func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   4,
		MaxArrayElements:  16,
		MaxMapPairs:       maxPCRs,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
})

// message is COSE_Sign1 (RFC 9052 section 4.2).
type message struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[uint64]cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

// ParseDocument reads an attestation document, tagged or not, and checks every
// rule of AWS's specification that needs no certificate. Errors are
// *tee.VerifyError with all that is wrong: CodeParse, and CodeUnsupported for
// other algorithms.
func ParseDocument(b []byte) (*Document, error) {
	if len(b) > maxDocument {
		return nil, tee.Refuse(tee.Nitro, tee.CodeParse, "document", fmt.Sprintf("at most %d bytes", maxDocument), fmt.Sprint(len(b)), "")
	}
	var m message
	if err := decoding().Unmarshal(bytes.TrimPrefix(b, []byte{tagSign1}), &m); err != nil {
		return nil, tee.Refuse(tee.Nitro, tee.CodeParse, "document", "COSE_Sign1", fmt.Sprintf("%.200q", err.Error()), "pass the document as the NSM gave it, not in base64")
	}
	if !bytes.HasPrefix(bytes.TrimPrefix(b, []byte{tagSign1}), headES384()) {
		return nil, tee.Refuse(tee.Nitro, tee.CodeUnsupported, "algorithm", "ES384 in the protected header, and no other header", fmt.Sprintf("%.32x", m.Protected), "")
	}
	if n := len(m.Payload); n == 0 || n > maxPayload {
		return nil, tee.Refuse(tee.Nitro, tee.CodeParse, "payload", fmt.Sprintf("1 to %d bytes", maxPayload), fmt.Sprint(n), "")
	}
	d := &Document{}
	if err := decoding().Unmarshal(m.Payload, d); err != nil {
		return nil, tee.Refuse(tee.Nitro, tee.CodeParse, "payload", "an attestation document", fmt.Sprintf("%.200q", err.Error()), "")
	}
	d.payload, d.signature = m.Payload, m.Signature
	if failures := d.check(); len(failures) > 0 {
		return nil, &tee.VerifyError{Kind: tee.Nitro, Failures: failures}
	}
	return d, nil
}

// check lists which rules of AWS's specification the document breaks (section
// "Attestation document validation", syntactical validation).
func (d *Document) check() []tee.Failure {
	var failures []tee.Failure
	bad := func(claim, want, got string) {
		failures = append(failures, tee.Failure{Code: tee.CodeParse, Claim: claim, Want: want, Got: got})
	}
	size := func(claim string, b []byte, least, most int) {
		if len(b) < least || len(b) > most {
			bad(claim, fmt.Sprintf("%d to %d bytes", least, most), fmt.Sprint(len(b)))
		}
	}
	if len(d.ModuleID) > maxModuleID || printable(d.ModuleID) != nil {
		bad("module_id", fmt.Sprintf("1 to %d printable characters", maxModuleID), fmt.Sprintf("%.64q", d.ModuleID))
	}
	if d.Timestamp == 0 || d.Timestamp >= 1<<63 {
		bad("timestamp", "milliseconds since 1970", fmt.Sprint(d.Timestamp))
	}
	if d.Digest != digestSHA384 {
		failures = append(failures, tee.Failure{Code: tee.CodeUnsupported, Claim: "digest", Want: digestSHA384, Got: fmt.Sprintf("%.16q", d.Digest)})
	}
	failures = append(failures, d.checkPCRs()...)
	size("certificate", d.Certificate, 1, maxCertificate)
	if n := len(d.CABundle); n == 0 || n > maxBundle {
		bad("cabundle", fmt.Sprintf("1 to %d certificates", maxBundle), fmt.Sprint(n))
	}
	for _, c := range d.CABundle {
		size("cabundle", c, 1, maxCertificate)
	}
	if d.PublicKey != nil {
		size("public_key", d.PublicKey, 1, maxPublicKey)
	}
	size("user_data", d.UserData, 0, maxUserData)
	size("nonce", d.Nonce, 0, maxNonce)
	size("signature", d.signature, 2*p384Size, 2*p384Size)
	return failures
}

func (d *Document) checkPCRs() []tee.Failure {
	var failures []tee.Failure
	bad := func(want, got string) {
		failures = append(failures, tee.Failure{Code: tee.CodeParse, Claim: "pcrs", Want: want, Got: got})
	}
	if n := len(d.PCRs); n == 0 || n > maxPCRs {
		bad(fmt.Sprintf("1 to %d", maxPCRs), fmt.Sprint(n))
	}
	if _, ok := d.PCRs[0]; !ok {
		bad("PCR0, the measurement", "none")
	}
	for i, v := range d.PCRs {
		if i >= maxPCRs || len(v) != pcrSize {
			// One is enough to say, and a map has no order to say them all in.
			bad(fmt.Sprintf("indices below %d and %d bytes each", maxPCRs, pcrSize), "others")
			break
		}
	}
	return failures
}

// printable wants at least one character, and all of ASCII that can be seen.
func printable(s string) error {
	if s == "" {
		return errors.New("empty")
	}
	for _, c := range []byte(s) {
		if c <= 0x20 || c > 0x7E {
			return errors.New("not printable")
		}
	}
	return nil
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
