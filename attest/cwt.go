package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// A CWT (RFC 8392) is issued and accepted in one form: the CWT tag 61 around the
// COSE_Sign1 tag 18 around [protected, {}, payload, signature], all of it in
// deterministic CBOR (RFC 8949 section 4.2.1), with the algorithm and the key's
// RFC 7638 thumbprint as 32 bytes in the protected header and nothing else in
// either header. RFC 8392 lets both tags be left out where the context says what
// the bytes are. They are required here: bytes that say what they are cannot be
// taken for something else, and no two spellings of a token mean the same.

// cwtHead is how a token begins: tag 61 (RFC 8392 section 6), then tag 18 (RFC
// 9052 section 4.2).
const cwtHead = "\xd8\x3d\xd2"

// IsCWT reports whether bytes begin as a token of [Issuer.IssueCWT] does. It
// proves nothing.
func IsCWT(b []byte) bool { return bytes.HasPrefix(b, []byte(cwtHead)) }

// Labels of the protected header (RFC 9052 section 3.1).
const (
	coseAlg = 1
	coseKid = 4
)

// sign1 is COSE_Sign1 (RFC 9052 section 4.2).
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[int64]int64 // of which none is allowed
	Payload     []byte
	Signature   []byte
}

// sigStructure is what is signed (RFC 9052 section 4.4).
type sigStructure struct {
	_         struct{} `cbor:",toarray"`
	Context   string
	Protected []byte
	External  []byte
	Payload   []byte
}

// IssueCWT signs the token that [Issuer.Issue] would, as a CWT: the same verdict
// in about half the bytes, for relying parties that speak CBOR. What is said
// there holds here.
func (i *Issuer) IssueCWT(v *Verified, policyDigest [32]byte, o IssueOptions) ([]byte, error) {
	statement, err := i.statement(v, policyDigest, o)
	if err != nil {
		return nil, fmt.Errorf("issue token: %w", err)
	}
	// Through JSON, so that the two forms cannot say different things: text that
	// is not UTF-8 and numbers come out of it as a reader of the JWT sees them.
	var c earClaims
	if err := json.Unmarshal(statement, &c); err != nil {
		return nil, fmt.Errorf("issue token: %w", err)
	}
	token, err := i.signCWT(&c)
	if err != nil {
		return nil, fmt.Errorf("issue token: %w", err)
	}
	if len(token) > MaxToken {
		return nil, fmt.Errorf("issue token: %d bytes, at most %d", len(token), MaxToken)
	}
	return token, nil
}

func (i *Issuer) signCWT(c *earClaims) ([]byte, error) {
	claims, err := cwtOf(c)
	if err != nil {
		return nil, err
	}
	var m sign1
	if m.Payload, err = encodeCBOR(claims); err != nil {
		return nil, err
	}
	kid, ok := decode64(i.own.id)
	if !ok {
		return nil, fmt.Errorf("%w: thumbprint", ErrKeySet)
	}
	if m.Protected, err = encodeCBOR(map[int64]any{coseAlg: i.own.alg.coseAlg, coseKid: kid}); err != nil {
		return nil, err
	}
	input, err := m.signed()
	if err != nil {
		return nil, err
	}
	if m.Signature, err = i.own.sign(i.cfg.Key, input); err != nil {
		return nil, err
	}
	m.Unprotected = map[int64]int64{}
	b, err := encodeCBOR(m)
	return append([]byte(cwtHead), b...), err
}

// signed returns the bytes that are signed.
func (m *sign1) signed() (string, error) {
	b, err := encodeCBOR(sigStructure{Context: "Signature1", Protected: m.Protected, External: []byte{}, Payload: m.Payload})
	return string(b), err
}

// VerifyCWT is [TokenVerifier.Verify] for a token in the form of
// [Issuer.IssueCWT]. Every check is the same, and so is the result.
func (v TokenVerifier) VerifyCWT(token []byte, at time.Time) (*Result, error) {
	return v.verify(at, func() (earClaims, tokenKey, refusals) {
		raw, key, r := openCWT(token, v.Keys)
		if len(r) > 0 {
			return earClaims{}, tokenKey{}, r
		}
		c, r := parseCWT(raw)
		return c, key, r
	})
}

// openCWT returns the claims of a token that a key of the set signed, and that
// key. Nothing of the token is used, or repeated in a failure, before that.
func openCWT(token []byte, keys KeySet) (claims []byte, by tokenKey, r refusals) {
	if len(token) > MaxToken {
		r.add(CodeTokenMalformed, "token", "at most 64 KiB", "more", "")
		return nil, tokenKey{}, r
	}
	rest, tagged := bytes.CutPrefix(token, []byte(cwtHead))
	if !tagged {
		r.add(CodeTokenMalformed, "token", "CBOR tags 61 and 18", "other bytes", "pass the token exactly as it was issued, not in base64")
		return nil, tokenKey{}, r
	}
	var m sign1
	if err := decodeCBOR(rest, &m); err != nil {
		r.add(CodeTokenMalformed, "token", "a COSE_Sign1 in deterministic encoding, with no unprotected header", "another form", "pass the token exactly as it was issued")
		return nil, tokenKey{}, r
	}
	if len(m.Unprotected) > 0 {
		r.add(CodeTokenMalformed, "header", "no unprotected header", "one", "what is not signed is never used: do not send it")
		return nil, tokenKey{}, r
	}
	if by, r = checkProtected(m.Protected, keys); len(r) > 0 {
		return nil, tokenKey{}, r
	}
	input, err := m.signed()
	if err != nil || !by.signed(input, m.Signature) {
		r.add(CodeTokenSignature, "signature", "by the key that kid names", "another", "the token was altered or forged: ask the attester for a new one")
		return nil, tokenKey{}, r
	}
	return m.Payload, by, nil
}

// checkProtected returns the key that a protected header names; see
// [checkHeader].
func checkProtected(header []byte, keys KeySet) (k tokenKey, r refusals) {
	var h map[any]any
	if err := decodeCBOR(header, &h); err != nil {
		r.add(CodeTokenMalformed, "header", "a CBOR map", "other bytes", "")
		return tokenKey{}, r
	}
	alg := cborInt(h[uint64(coseAlg)]) // anything else reads as 0, which is reserved
	kid, _ := h[uint64(coseKid)].([]byte)
	delete(h, uint64(coseAlg))
	delete(h, uint64(coseKid))
	if len(h) > 0 {
		r.add(CodeTokenMalformed, "header", "alg and kid", "other members", "keys and extensions in a header are never used: do not send them")
	}
	var a algorithm
	for _, known := range algorithms() {
		if alg == known.coseAlg {
			a = known
		}
	}
	k = keys.choose(&r, a, encode64(kid))
	return k, r
}
