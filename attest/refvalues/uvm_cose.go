package refvalues

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// Labels of COSE headers, as decode returns them: RFC 9052 section 3.1, RFC 9360
// section 2, RFC 9597 section 2.
const (
	labelAlgorithm   = uint64(1)
	labelCritical    = uint64(2)
	labelContentType = uint64(3)
	labelCWTClaims   = uint64(15)
	labelX5Chain     = uint64(33)
	labelX5T         = uint64(34)
)

// sign1 is a COSE_Sign1 whose signer is named by certificates in its header. It
// is read here and not by go-cose, so that what is signed and what is looked at
// are the same bytes, read once and by the strict rules of this package.
type sign1 struct {
	protected          []byte // the encoded header, as it was signed
	header             map[any]any
	payload, signature []byte
	algorithm          cose.Algorithm
	chain              [][]byte // leaf first
}

// readSign1 reads a message, and verifies nothing.
func readSign1(b []byte) (*sign1, error) {
	if len(b) > MaxUVM {
		return nil, malformed("%d bytes, at most %d", len(b), MaxUVM)
	}
	v, err := decode(b)
	if err != nil {
		return nil, err
	}
	inner, _ := tagged(v, tagCOSESign1)
	parts, ok := inner.([]any)
	if !ok || len(parts) != 4 {
		return nil, malformed("not a COSE_Sign1 with its tag")
	}
	m := &sign1{}
	var is [4]bool
	m.protected, is[0] = parts[0].([]byte)
	unprotected, isMap := parts[1].(map[any]any)
	is[1] = isMap
	m.payload, is[2] = parts[2].([]byte)
	m.signature, is[3] = parts[3].([]byte)
	if slices.Contains(is[:], false) {
		return nil, malformed("COSE_Sign1: want headers, a payload and a signature")
	}
	if err := m.readHeader(unprotected); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *sign1) readHeader(unprotected map[any]any) error {
	v, err := decode(m.protected)
	if err != nil {
		return err
	}
	var ok bool
	if m.header, ok = v.(map[any]any); !ok {
		return malformed("COSE header: not a map")
	}
	// A label is in one of the two headers (RFC 9052 section 3), and these are in
	// no header that is not signed (section 3.1; RFC 9995 section 4).
	for label := range unprotected {
		if _, twice := m.header[label]; twice || label == labelCritical || label == labelContentType {
			return malformed("COSE header: crit, the content type or a label of the protected header is in the unprotected one")
		}
	}
	if err := m.checkCritical(); err != nil {
		return err
	}
	alg, ok := m.header[labelAlgorithm].(int64)
	if !ok {
		return malformed("COSE header: the algorithm is missing, or none that is taken here")
	}
	m.algorithm = cose.Algorithm(alg)
	certs, err := arrayOf(m.header[labelX5Chain], "COSE header: x5chain", maxChain)
	if err != nil {
		return err
	}
	for _, c := range certs {
		der, ok := c.([]byte)
		if !ok {
			return malformed("COSE header: x5chain: want byte strings")
		}
		m.chain = append(m.chain, der)
	}
	return m.checkThumbprint()
}

// checkCritical wants every header that is declared critical to be there, and to
// be one that this package acts on (RFC 9052 section 3.1).
func (m *sign1) checkCritical() error {
	v, ok := m.header[labelCritical]
	if !ok {
		return nil
	}
	critical, err := arrayOf(v, "COSE header: crit", 16)
	if err != nil {
		return err
	}
	known := []any{labelAlgorithm, labelContentType, labelCWTClaims, labelX5Chain, labelX5T, uint64(258), uint64(259), "iss", "feed", "signingtime"}
	for _, label := range critical {
		switch label.(type) {
		case uint64, string: // all others cannot be compared, or are not known
		default:
			return malformed("COSE header: a critical parameter that is not supported")
		}
		if _, there := m.header[label]; !there || !slices.Contains(known, label) {
			return malformed("COSE header: a critical parameter that is missing or not supported")
		}
	}
	return nil
}

// checkThumbprint compares the header x5t, if there is one, with the certificate
// that it is of. The chain is signed too; a message that contradicts itself is
// still none to trust.
func (m *sign1) checkThumbprint() error {
	v, ok := m.header[labelX5T]
	if !ok {
		return nil
	}
	parts, _ := v.([]any)
	if len(parts) != 2 {
		return malformed("COSE header: x5t: want an algorithm and a digest")
	}
	number, _ := parts[0].(int64)
	digest, _ := parts[1].([]byte)
	hash, ok := map[int64]crypto.Hash{-16: crypto.SHA256, -43: crypto.SHA384, -44: crypto.SHA512}[number] // RFC 9054 section 2.1
	if !ok {
		return malformed("COSE header: x5t: want SHA-256, SHA-384 or SHA-512")
	}
	h := hash.New()
	h.Write(m.chain[0])
	if !bytes.Equal(h.Sum(nil), digest) {
		return malformed("COSE header: x5t is of another certificate than the first of x5chain")
	}
	return nil
}

// verify checks the signature over the Sig_structure (RFC 9052 section 4.4).
func (m *sign1) verify(key crypto.PublicKey) error {
	if !madeFor(m.algorithm, key) {
		return untrusted("the algorithm %d is not one for the signer's key", int64(m.algorithm))
	}
	v, err := cose.NewVerifier(m.algorithm, key)
	if err != nil {
		return untrusted("%s", clip(err.Error()))
	}
	structure, err := cbor.Marshal([]any{"Signature1", m.protected, []byte{}, m.payload})
	if err != nil {
		return err
	}
	if v.Verify(structure, m.signature) != nil {
		return untrusted("the signature is not by the signer's key")
	}
	return nil
}

// madeFor reports whether an algorithm is one of those that are taken, and for
// keys of the kind.
func madeFor(alg cose.Algorithm, key crypto.PublicKey) bool {
	switch key.(type) {
	case *ecdsa.PublicKey:
		return fits(alg, key)
	case *rsa.PublicKey:
		return alg == cose.AlgorithmPS256 || alg == cose.AlgorithmPS384 || alg == cose.AlgorithmPS512
	}
	return false
}

// timeOf reads a time, as seconds with or without a tag; it may be missing.
func timeOf(m map[any]any, label any, at string) (time.Time, error) {
	v, ok := m[label]
	if !ok {
		return time.Time{}, nil
	}
	switch t := v.(type) {
	case time.Time: // tag 0 or 1
		if !t.IsZero() {
			return t.UTC(), nil
		}
	case uint64:
		if t < 1<<40 {
			return time.Unix(int64(t), 0).UTC(), nil
		}
	}
	return time.Time{}, malformed("%s: not a time", at)
}

// decimal reads a number that can be written in one way only.
func decimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("not a decimal number of 64 bits")
	}
	return n, nil
}
