package tpmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"

	"github.com/cloister-cc/cloister/tee/tpm"
)

// EncodeQuote returns the bytes of a quote (TPMS_ATTEST).
func EncodeQuote(q tpm.Quote) []byte {
	be := binary.BigEndian
	b := []byte{0xFF, 'T', 'C', 'G', 0x80, 0x18}
	b = sized(sized(b, q.QualifiedSigner), q.ExtraData)
	b = be.AppendUint32(be.AppendUint32(be.AppendUint64(b, q.Clock), q.ResetCount), q.RestartCount)
	safe := byte(0)
	if q.Safe {
		safe = 1
	}
	b = be.AppendUint64(append(b, safe), q.FirmwareVersion)
	b = be.AppendUint32(b, uint32(len(q.Selections)))
	for _, s := range q.Selections {
		var bits [3]byte
		for _, i := range s.Indices {
			bits[i/8%3] |= 1 << (i % 8)
		}
		b = append(append(be.AppendUint16(b, uint16(s.Algorithm)), 3), bits[:]...)
	}
	return sized(b, q.PCRDigest)
}

func sized(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

// RawSignature signs with RSA and returns the bare bytes, as Azure has them.
func (t *TPM) RawSignature(message []byte) []byte {
	digest := t.Hash.Sum(message)
	var options crypto.SignerOpts = t.Hash.Hash()
	if t.Scheme == tpm.RSAPSS {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: t.Hash.Hash()}
	}
	b, err := t.Key.Sign(rand.Reader, digest, options)
	if err != nil {
		panic(err) // only for keys that do not fit the scheme
	}
	return b
}

// Sign returns a TPMT_SIGNATURE over a message.
func (t *TPM) Sign(message []byte) []byte {
	b := []byte{byte(t.Scheme >> 8), byte(t.Scheme), byte(t.Hash >> 8), byte(t.Hash)}
	if t.Scheme != tpm.ECDSA {
		return sized(b, t.RawSignature(message))
	}
	key, ok := t.Key.(*ecdsa.PrivateKey)
	if !ok {
		panic("ECDSA needs a key of its own")
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, t.Hash.Sum(message))
	if err != nil {
		panic(err) // only if the system has no random numbers
	}
	return sized(sized(b, r.Bytes()), s.Bytes())
}

// Public returns the TPMT_PUBLIC of the attestation key.
func (t *TPM) Public() []byte {
	return EncodePublic(t.Key.Public(), t.Attributes, t.Scheme, uint16(t.Hash), 0)
}

// EncodePublic returns a TPMT_PUBLIC with a name of SHA-256 and no policy. bits
// are those of AES-CFB, 0 for none; scheme 0 is none.
func EncodePublic(key crypto.PublicKey, attributes tpm.Attributes, scheme tpm.Scheme, hash uint16, bits uint16) []byte {
	const null = 0x10
	be := binary.BigEndian
	rest := func(b []byte) []byte {
		b = be.AppendUint32(append(b, 0, 0x0B), uint32(attributes))
		b = append(b, 0, 0) // no policy
		if bits == 0 {
			b = append(b, 0, null)
		} else {
			b = append(be.AppendUint16(append(b, 0, 0x06), bits), 0, 0x43)
		}
		if scheme == 0 {
			return append(b, 0, null)
		}
		return be.AppendUint16(be.AppendUint16(b, uint16(scheme)), hash)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		b := rest([]byte{0, 0x01})
		b = be.AppendUint16(b, uint16(k.N.BitLen()))
		b = append(b, 0, 0, 0, 0) // 65537
		return sized(b, k.N.Bytes())
	case *ecdsa.PublicKey:
		b := rest([]byte{0, 0x23})
		id := map[string]byte{"P-256": 3, "P-384": 4, "P-521": 5}[k.Curve.Params().Name]
		b = append(b, 0, id, 0, null)
		point, err := k.Bytes()
		if err != nil {
			panic(err) // the key is not on its curve
		}
		point = point[1:]
		return sized(sized(b, point[:len(point)/2]), point[len(point)/2:])
	default:
		panic("neither RSA nor ECDSA")
	}
}
