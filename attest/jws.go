package attest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"math/big"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// MaxToken is the largest token in bytes that is issued or verified.
const MaxToken = 64 << 10

// tokenType is the typ of every token.
const tokenType = "JWT"

// A token is a JWS in compact form (RFC 7515 section 7.1). The code for it is
// here and not in a general library because the general case is what attacks on
// JOSE live on: here a header holds alg, kid and typ and nothing else, two
// algorithms exist, and every part has exactly one spelling. Tests compare it
// with go-jose.

// signToken signs claims with key.
func signToken(key *ecdsa.PrivateKey, public tokenKey, claims []byte) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": public.alg.name, "kid": public.id, "typ": tokenType})
	if err != nil {
		return "", err
	}
	input := encode64(header) + "." + encode64(claims)
	sig, err := public.sign(key, input)
	if err != nil {
		return "", err
	}
	return input + "." + encode64(sig), nil
}

// openToken returns the claims of a token that a key of the set signed, and that
// key. Nothing of the token is used, or repeated in a failure, before that.
func openToken(token string, keys KeySet) (claims []byte, by tokenKey, r refusals) {
	if len(token) > MaxToken {
		r.add(CodeTokenMalformed, "token", "at most 64 KiB", "more", "")
		return nil, tokenKey{}, r
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		r.add(CodeTokenMalformed, "token", "a compact JWS of three parts", "another form", "pass the token exactly as it was issued")
		return nil, tokenKey{}, r
	}
	header, okHeader := decode64(parts[0])
	claims, okClaims := decode64(parts[1])
	sig, okSig := decode64(parts[2])
	if !okHeader || !okClaims || !okSig {
		r.add(CodeTokenMalformed, "token", "unpadded base64url", "another encoding", "pass the token exactly as it was issued")
		return nil, tokenKey{}, r
	}
	if by, r = checkHeader(header, keys); len(r) > 0 {
		return nil, tokenKey{}, r
	}
	if !by.signed(parts[0]+"."+parts[1], sig) {
		r.add(CodeTokenSignature, "signature", "by the key that kid names", "another", "the token was altered or forged: ask the attester for a new one")
		return nil, tokenKey{}, r
	}
	return claims, by, nil
}

// checkHeader returns the key that a header names. Keys that the header itself
// brings (jwk, x5c, jku, x5u) are never looked at: it may not have any.
func checkHeader(header []byte, keys KeySet) (k tokenKey, r refusals) {
	var h map[string]json.RawMessage
	if err := checkMembers(header, claimName); err != nil || json.Unmarshal(header, &h) != nil {
		r.add(CodeTokenMalformed, "header", "a JSON object", "other bytes", "")
		return tokenKey{}, r
	}
	text := func(name string) string {
		var s string
		_ = json.Unmarshal(h[name], &s) // anything else reads as "" and is refused below
		delete(h, name)
		return s
	}
	alg, kid, typ := text("alg"), text("kid"), text("typ")
	if len(h) > 0 {
		r.add(CodeTokenMalformed, "header", "alg, kid and typ", "other members", "keys and extensions in a header are never used: do not send them")
	}
	if typ != tokenType {
		r.add(CodeTokenMalformed, "typ", tokenType, "another", "")
	}
	var a algorithm
	for _, known := range algorithms() {
		if alg == known.name {
			a = known
		}
	}
	k = keys.choose(&r, a, kid)
	return k, r
}

// choose returns the key that a header names, if it is the issuer's and of the
// algorithm that the header names; the zero algorithm is one that is not known.
func (s KeySet) choose(r *refusals, a algorithm, kid string) tokenKey {
	if a.name == "" {
		r.add(CodeTokenAlgorithm, "alg", "ES256 or ES384", "another", "unsigned, MACed and RSA-signed tokens prove nothing here")
	}
	k, known := s.find(kid)
	switch {
	case !known:
		r.add(CodeTokenKey, "kid", "a key of the issuer", "another", "fetch the issuer's key set again if it has rotated its keys")
	case a.name != "" && k.alg.name != a.name:
		r.add(CodeTokenAlgorithm, "alg", k.alg.name, a.name, "the key is of another algorithm")
	}
	return k
}

// sign returns r and s, each of the size of the curve (RFC 7518 section 3.4, RFC
// 9053 section 2.1).
func (k tokenKey) sign(private *ecdsa.PrivateKey, input string) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, private, k.alg.hash([]byte(input)))
	if err != nil {
		return nil, err
	}
	sig := make([]byte, 2*k.alg.size)
	r.FillBytes(sig[:k.alg.size])
	s.FillBytes(sig[k.alg.size:])
	return sig, nil
}

func (k tokenKey) signed(input string, sig []byte) bool {
	if len(sig) != 2*k.alg.size {
		return false
	}
	r, s := new(big.Int).SetBytes(sig[:k.alg.size]), new(big.Int).SetBytes(sig[k.alg.size:])
	return ecdsa.Verify(k.public, k.alg.hash([]byte(input)), r, s)
}

// claimName reports whether s can be a member name of a token: the names of JWT,
// EAT, EAR and AR4SI, and those of claims trees.
func claimName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return s != ""
}

// refuseToken makes the error of failures.
func refuseToken(r refusals) error { return &TokenError{Failures: []tee.Failure(r)} }
