package eif

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/cloister-cc/cloister/tee"
)

// PCR is the value of a register of an enclave.
type PCR [sha512.Size384]byte

// PCRs are the registers that the image of an enclave decides about.
type PCRs struct {
	PCR0, PCR1, PCR2 PCR
	// PCR8 is of the certificate that signed the image; zero if none did.
	PCR8 PCR
}

// Measurement is the measurement of evidence of the image: PCR 0.
func (p PCRs) Measurement() tee.Measurement { return bytes.Clone(p.PCR0[:]) }

// Measure returns the registers of an image. A signature has to be of this image; the
// error is an [ErrImage] otherwise. Whose certificate signed it is for the caller, who
// knows its PCR 8: the certificate itself is not judged, and neither is its time.
func Measure(i Image) (PCRs, error) {
	if err := i.check(); err != nil {
		return PCRs{}, err
	}
	boot := [][]byte{i.Kernel, []byte(i.CommandLine), i.RAMDisks[0]}
	p := PCRs{
		PCR0: register(append(boot[:3:3], i.RAMDisks[1:]...)...), PCR1: register(boot...), PCR2: register(i.RAMDisks[1:]...),
	}
	if i.Signature == nil {
		return p, nil
	}
	certificate, err := i.checkSignature(p.PCR0)
	if err != nil {
		return PCRs{}, fmt.Errorf("%w: signature: %w", ErrImage, err)
	}
	p.PCR8 = register(certificate.Raw)
	return p, nil
}

// register is a register that was extended once, by the SHA-384 of some parts.
func register(parts ...[]byte) PCR {
	h := sha512.New384()
	for _, b := range parts {
		h.Write(b)
	}
	return sha512.Sum384(h.Sum(make([]byte, sha512.Size384)))
}

// numbers are bytes that are written as a list of numbers.
type numbers []uint16

func (n numbers) bytes() ([]byte, bool) {
	b := make([]byte, len(n))
	for i, v := range n {
		if v > 0xFF {
			return nil, false
		}
		b[i] = byte(v)
	}
	return b, true
}

// checkSignature returns the certificate of who signed register 0.
func (i Image) checkSignature(pcr0 PCR) (*x509.Certificate, error) {
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxArrayElements: maxSignature, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		return nil, err
	}
	var signed []struct {
		Certificate numbers `cbor:"signing_certificate"`
		Signature   numbers `cbor:"signature"`
	}
	if err := mode.Unmarshal(i.Signature, &signed); err != nil || len(signed) == 0 {
		return nil, fmt.Errorf("not a list of certificates and signatures")
	}
	encoded, ok1 := signed[0].Certificate.bytes() // only the first counts
	message, ok2 := signed[0].Signature.bytes()
	block, rest := pem.Decode(encoded)
	if !ok1 || !ok2 || block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("its certificate is not one in PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its certificate: %w", err)
	}
	var m cose.UntaggedSign1Message
	if err := m.UnmarshalCBOR(message); err != nil {
		return nil, fmt.Errorf("not a COSE_Sign1: %w", err)
	}
	var payload struct {
		Index int     `cbor:"register_index"`
		Value numbers `cbor:"register_value"`
	}
	if err := mode.Unmarshal(m.Payload, &payload); err != nil {
		return nil, fmt.Errorf("it signs no register")
	}
	if value, ok := payload.Value.bytes(); !ok || payload.Index != 0 || !bytes.Equal(value, pcr0[:]) {
		return nil, fmt.Errorf("it is of another image")
	}
	algorithm, err := m.Headers.Protected.Algorithm()
	if err != nil || algorithm != cose.AlgorithmES256 && algorithm != cose.AlgorithmES384 && algorithm != cose.AlgorithmES512 {
		return nil, fmt.Errorf("its algorithm is not ES256, ES384 or ES512")
	}
	v, err := cose.NewVerifier(algorithm, certificate.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("its key is of another kind: %w", err)
	}
	full := cose.Sign1Message(m)
	if err := full.Verify(nil, v); err != nil {
		return nil, fmt.Errorf("it does not verify: %w", err)
	}
	return certificate, nil
}
