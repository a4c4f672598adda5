package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// TPM_ALG_IDs of public areas.
const (
	algRSA  = 0x0001
	algNull = 0x0010
	algECC  = 0x0023
	algAES  = 0x0006
	algCFB  = 0x0043
	algRSAE = 0x0015 // RSAES, which has no hash
	algECDA = 0x001A // ECDAA, which has a count
)

// Attributes are TPMA_OBJECT (part 2, section "TPMA_OBJECT").
type Attributes uint32

// The attributes that matter here.
const (
	FixedTPM            Attributes = 1 << 1 // cannot leave the TPM
	FixedParent         Attributes = 1 << 4
	SensitiveDataOrigin Attributes = 1 << 5 // the TPM made the secret itself
	UserWithAuth        Attributes = 1 << 6
	AdminWithPolicy     Attributes = 1 << 7
	Restricted          Attributes = 1 << 16 // signs only what a TPM made
	Decrypt             Attributes = 1 << 17
	Sign                Attributes = 1 << 18
)

// Public is a parsed TPMT_PUBLIC of an RSA or ECC key.
type Public struct {
	NameAlgorithm eventlog.Algorithm
	Attributes    Attributes
	AuthPolicy    []byte
	SymmetricBits int // of AES-CFB, for keys that protect others; 0: none
	Scheme        Scheme
	SchemeHash    eventlog.Algorithm
	Key           crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey

	raw []byte
}

// ParsePublic reads a TPMT_PUBLIC (part 2, section "TPMT_PUBLIC"), without the
// length of a TPM2B_PUBLIC before it. It refuses other kinds of keys, weak keys
// and points that are not on their curve. Errors are *tee.VerifyError.
func ParsePublic(b []byte) (*Public, error) {
	r := reader{b: bytes.Clone(b)}
	p := &Public{raw: r.b}
	kind := r.u16()
	p.NameAlgorithm = eventlog.Algorithm(r.u16())
	p.Attributes = Attributes(r.u32())
	p.AuthPolicy = r.sized(64)
	if sym := r.u16(); sym != algNull && r.err == nil {
		bits, mode := r.u16(), r.u16()
		if p.SymmetricBits = int(bits); sym != algAES || mode != algCFB || bits != 128 && bits != 256 {
			return nil, unsupported("public area", "AES-CFB with 128 or 256 bits", fmt.Sprintf("algorithm %#x, mode %#x, %d bits", sym, mode, bits))
		}
	}
	p.parseScheme(&r)
	var err error
	switch {
	case r.err != nil:
	case kind == algRSA:
		err = p.parseRSA(&r)
	case kind == algECC:
		err = p.parseECC(&r)
	default:
		return nil, unsupported("public area", "an RSA or ECC key", fmt.Sprintf("type %#x", kind))
	}
	if e := r.end(); e != nil {
		return nil, malformed("public area", "TPMT_PUBLIC", e)
	}
	if err == nil {
		err = checkKey(p.Key)
	}
	if err == nil && (!p.NameAlgorithm.Known() || p.NameAlgorithm == eventlog.SHA1) {
		err = fmt.Errorf("name of %v", p.NameAlgorithm)
	}
	if err != nil {
		return nil, unsupported("public area", "RSA of 2048 bits or more, or a NIST curve, with a name of SHA-256 or better", err.Error())
	}
	return p, nil
}

func (p *Public) parseScheme(r *reader) {
	scheme := r.u16()
	if scheme == algNull {
		return
	}
	p.Scheme = Scheme(scheme)
	if scheme != algRSAE {
		p.SchemeHash = eventlog.Algorithm(r.u16())
	}
	if scheme == algECDA {
		r.u16()
	}
}

func (p *Public) parseRSA(r *reader) error {
	bits, exponent := r.u16(), r.u32()
	n := new(big.Int).SetBytes(r.sized(maxKeyBytes))
	if exponent == 0 {
		exponent = 65537 // part 2, section "TPMS_RSA_PARMS"
	}
	if n.BitLen() != int(bits) {
		return fmt.Errorf("RSA key of %d bits that says %d", n.BitLen(), bits)
	}
	if exponent > 1<<31-1 {
		return fmt.Errorf("RSA exponent %d", exponent)
	}
	p.Key = &rsa.PublicKey{N: n, E: int(exponent)}
	return nil
}

func (p *Public) parseECC(r *reader) error {
	id := r.u16()
	if kdf := r.u16(); kdf != algNull {
		r.u16()
	}
	x, y := r.sized(66), r.sized(66)
	curve := curveOf(id)
	if curve == nil {
		return fmt.Errorf("curve %#x", id)
	}
	key, err := eccKey(curve, x, y)
	if err != nil {
		return err
	}
	p.Key = key
	return nil
}

// curveOf is the curve of a TPM_ECC_CURVE, nil if it is not known.
func curveOf(id uint16) elliptic.Curve {
	switch id {
	case 3:
		return elliptic.P256()
	case 4:
		return elliptic.P384()
	case 5:
		return elliptic.P521()
	default:
		return nil
	}
}

// eccKey makes a key of coordinates and refuses points that are not on the curve.
func eccKey(curve elliptic.Curve, x, y []byte) (*ecdsa.PublicKey, error) {
	n := (curve.Params().BitSize + 7) / 8
	x, y = bytes.TrimLeft(x, "\x00"), bytes.TrimLeft(y, "\x00")
	if len(x) > n || len(y) > n {
		return nil, errors.New("coordinates are too long")
	}
	point := make([]byte, 1+2*n)
	point[0] = 4 // uncompressed
	copy(point[1+n-len(x):], x)
	copy(point[1+2*n-len(y):], y)
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// Name is how a TPM names the key: the algorithm and the digest of its public
// area (part 1, section "Names").
func (p *Public) Name() []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(p.NameAlgorithm)), p.NameAlgorithm.Sum(p.raw)...)
}

// Bytes returns the TPMT_PUBLIC.
func (p *Public) Bytes() []byte { return bytes.Clone(p.raw) }

// CheckAK lists why a key is no attestation key: one that its TPM made, that
// cannot leave it, and that signs nothing but what the TPM itself made. Any other
// key can sign a quote that never was. The public area is as true as where it
// comes from: a quote's signature does not cover it, its name does.
func (p *Public) CheckAK() []tee.Failure {
	const want = FixedTPM | FixedParent | SensitiveDataOrigin | Restricted | Sign
	if p.Attributes&want == want && p.Attributes&Decrypt == 0 {
		return nil
	}
	return []tee.Failure{{
		Code: tee.CodeUnsupported, Claim: "attestation key", Want: "fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign and not decrypt",
		Got: fmt.Sprintf("attributes %#x", uint32(p.Attributes)), Hint: "a key that is not restricted signs anything it is given",
	}}
}
