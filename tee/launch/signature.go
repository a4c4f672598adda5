package launch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// MaxSignature is the largest image signature, in bytes, that is parsed.
const MaxSignature = 4 << 10

// ErrSignature is wrapped by every refusal of an image signature.
var ErrSignature = errors.New("image signature refused")

// signatureContext separates image signatures from every other COSE message.
var signatureContext = []byte("cloister image signature v1")

// signedImage is the payload of an image signature.
type signedImage struct {
	Digest  []byte `cbor:"1,keyasint"`
	Product uint32 `cbor:"2,keyasint"`
	SVN     uint32 `cbor:"3,keyasint"`
	Key     []byte `cbor:"4,keyasint"` // SPKI DER of the signer's P-256 key
}

// SignImage signs an image digest for a product and security version with a
// P-256 key. The result (COSE_Sign1, RFC 9052 section 4.2, ES256) travels
// beside the image; the platform checks it at launch, as SGX checks SIGSTRUCT.
func SignImage(key *ecdsa.PrivateKey, imageDigest []byte, product, svn uint32) ([]byte, error) {
	if key.Curve != elliptic.P256() {
		return nil, errors.New("sign image: want a P-256 key")
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	payload, err := cbor.Marshal(signedImage{Digest: imageDigest, Product: product, SVN: svn, Key: spki})
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	headers := cose.Headers{Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: cose.AlgorithmES256}}
	b, err := cose.Sign1(rand.Reader, signer, headers, payload, signatureContext)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	return b, nil
}

// CheckSignature verifies an image signature against the document's image,
// signer, product and SVN. An unsigned document (no signer) must come with no
// signature, a signed one with exactly its own.
func (d Document) CheckSignature(sig []byte) error {
	if len(d.Signer) == 0 {
		if len(sig) != 0 {
			return fmt.Errorf("%w: the launch document names no signer", ErrSignature)
		}
		return nil
	}
	signed, err := parseSignature(sig)
	if err != nil {
		return err
	}
	signer := sha256.Sum256(signed.Key)
	switch {
	case string(signer[:]) != string(d.Signer):
		return fmt.Errorf("%w: signed by another key", ErrSignature)
	case string(signed.Digest) != string(d.Image.Digest):
		return fmt.Errorf("%w: signed for another image", ErrSignature)
	case signed.Product != d.Product || signed.SVN != d.SVN:
		return fmt.Errorf("%w: signed for product %d svn %d, not product %d svn %d", ErrSignature, signed.Product, signed.SVN, d.Product, d.SVN)
	}
	return nil
}

// Signed returns the document with signer, product and SVN taken from a
// verified image signature.
func (d Document) Signed(sig []byte) (Document, error) {
	signed, err := parseSignature(sig)
	if err != nil {
		return Document{}, err
	}
	signer := sha256.Sum256(signed.Key)
	d.Signer, d.Product, d.SVN = signer[:], signed.Product, signed.SVN
	return d, d.CheckSignature(sig)
}

func parseSignature(sig []byte) (signedImage, error) {
	var none, signed signedImage
	if len(sig) > MaxSignature {
		return none, fmt.Errorf("%w: %d bytes, at most %d", ErrSignature, len(sig), MaxSignature)
	}
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(sig); err != nil {
		return none, fmt.Errorf("%w: not a COSE_Sign1 message", ErrSignature)
	}
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		return none, err
	}
	if err := mode.Unmarshal(msg.Payload, &signed); err != nil {
		return none, fmt.Errorf("%w: payload: %v", ErrSignature, err)
	}
	pub, err := x509.ParsePKIXPublicKey(signed.Key)
	if err != nil {
		return none, fmt.Errorf("%w: signer key: %v", ErrSignature, err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return none, fmt.Errorf("%w: signer key is not P-256", ErrSignature)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, ec)
	if err != nil {
		return none, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	if err := msg.Verify(signatureContext, verifier); err != nil {
		return none, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return signed, nil
}
