package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/cloister-cc/cloister/tee"
)

// p384Size is the size of a P-384 scalar in bytes.
const p384Size = 48

// Verifier verifies attestation documents: the form, AWS's rules for it, the
// chain from the document's certificate through its bundle to a root, and the
// signature.
//
// Trusted is only AWS's embedded root G1, or Input.Roots in its place. The bundle
// in the document is all that is needed; Evidence.Certificates and
// Endorsements.Certificates are not looked at. Endorsements.CRLs are revocation
// lists of the issuers in the chain (AWS publishes one per issuer, at the
// addresses in the certificates); lists of others are ignored, and one that is
// given for an issuer must be current.
//
// Claims of a verified document: Measurement is PCR0, 48 bytes, the enclave
// image; Debug is whether PCR0 is all zero; ReportData is user_data, as it is,
// which is 64 bytes when our attester asked; InstanceID is module_id. Platform
// stays empty, because AWS does not say which machine it is, and the TCB status
// is always Unknown: there is firmware below the enclave, but no document says
// which and no list says what is current. Signer, Product and SVN stay empty:
// PCR8 names who signed the image, as a SHA-384 of a certificate and not the
// SHA-256 of a key. Vendor has module_id, timestamp_ms (the hypervisor's clock),
// pcrs (every PCR of the document by its number, in hex; those that were not
// extended are zeroes), signing_certificate (PCR8, empty when it is zero),
// public_key and nonce in hex, and root (SHA-256 of its certificate).
//
// Findings: CodeRevocationUnknown when a revocation list of an issuer was not
// given.
//
// It is pure and safe for concurrent use; the zero value works. Issuing
// certificates and lists that verified are remembered, within bounds, which
// changes how long a verdict takes and never what it is: two signatures instead
// of five.
type Verifier struct {
	issuers memo[*x509.Certificate]
	lists   listCache
}

// New returns a verifier that has AWS's root embedded.
func New() *Verifier { return &Verifier{} }

// Kind is tee.Nitro.
func (v *Verifier) Kind() tee.Kind { return tee.Nitro }

// Detect reports whether data begins as COSE_Sign1 with ECDSA, tagged or not, as
// every attestation document does. Which ECDSA is left to Verify.
func (v *Verifier) Detect(data []byte) bool {
	// An array of four; a byte string of four with the map {1: -33 or lower}.
	return bytes.HasPrefix(bytes.TrimPrefix(data, []byte{tagSign1}), []byte{0x84, 0x44, 0xA1, 0x01, 0x38})
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report
// data is the expected one is for the caller to check. The error is a
// *tee.VerifyError that lists everything that is wrong: CodeUnknownFormat (other
// kind of evidence), CodeParse, CodeUnsupported (other algorithms), CodeTime
// (Input.At is zero), CodeChain, CodeExpired, CodeRevoked,
// CodeCollateralExpired (no revocation list is current), CodeSignature.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	if ev.Kind != tee.Nitro {
		return refuse(tee.Failure{Code: tee.CodeUnknownFormat, Claim: "tee", Want: string(tee.Nitro), Got: fmt.Sprintf("%.32q", string(ev.Kind))})
	}
	var failures []tee.Failure
	if in.At.IsZero() {
		failures = append(failures, tee.Failure{Code: tee.CodeTime, Claim: "time", Want: "the time to verify at", Got: "none"})
	}
	d, err := ParseDocument(ev.Data)
	if err != nil {
		if e, ok := errors.AsType[*tee.VerifyError](err); ok {
			failures = append(failures, e.Failures...)
		}
		return refuse(failures...)
	}
	c := v.checkChain(d, in)
	failures = append(failures, c.failures...)
	if c.leaf != nil && !d.signedBy(keyOf(c.leaf)) {
		failures = append(failures, tee.Failure{Code: tee.CodeSignature, Claim: "signature", Want: "by the key in the document's certificate", Hint: "the document was altered, or another key signed it"})
	}
	if len(failures) > 0 || c.root == nil || c.leaf == nil {
		return refuse(failures...)
	}
	return claimsFrom(d, c.root), c.findings, nil
}

func refuse(failures ...tee.Failure) (tee.Claims, []tee.Finding, error) {
	return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.Nitro, Failures: failures}
}

// signedBy verifies the signature over the Sig_structure (RFC 9052 section 4.4).
// Its CBOR is written out here: an array of a text and three byte strings, the
// second of which is empty.
func (d *Document) signedBy(key *ecdsa.PublicKey) bool {
	h := sha512.New384()
	h.Write([]byte("\x84\x6ASignature1\x44"))
	h.Write(protectedES384)
	h.Write([]byte{0x40})
	h.Write(byteStringHead(len(d.payload)))
	h.Write(d.payload)
	r, s := new(big.Int).SetBytes(d.signature[:p384Size]), new(big.Int).SetBytes(d.signature[p384Size:])
	return ecdsa.Verify(key, h.Sum(nil), r, s)
}

// byteStringHead is the shortest head of a CBOR byte string (RFC 8949 section
// 3.1) of n bytes, below 64 KiB.
func byteStringHead(n int) []byte {
	switch {
	case n < 24:
		return []byte{0x40 | byte(n)}
	case n < 256:
		return []byte{0x58, byte(n)}
	default:
		return binary.BigEndian.AppendUint16([]byte{0x59}, uint16(n))
	}
}

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
