package maa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// The algorithms that a provider's tokens can have. ES256 is the default. RS256 is
// for clients that know nothing else, such as Microsoft's for Python: a signature
// costs more than ten verifications.
const (
	ES256 = "ES256"
	ES384 = "ES384"
	RS256 = "RS256"
)

// rsaBits is the size of RSA keys: what Microsoft's service uses.
const rsaBits = 2048

// signer is a signing key with its certificate, or, once it is retired, the
// certificate alone.
type signer struct {
	alg  string
	id   string // base64url of the SHA-256 of the certificate
	key  crypto.Signer
	cert *x509.Certificate
	jwk  map[string]any
}

// newKey makes a key with a self-signed certificate for a provider. The
// certificate says nothing but the key: what vouches for it is where it was
// fetched from.
func newKey(alg, provider string, now time.Time) (keyState, error) {
	key, err := generate(alg)
	if err != nil {
		return keyState{}, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "cloister attestation provider " + provider},
		NotBefore: now.Add(-time.Hour), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), // RFC 5280 section 4.1.2.5: no expiry
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return keyState{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	return keyState{Private: private, Certificate: der}, err
}

func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return nil, fmt.Errorf("%w: algorithm: want %s, %s or %s", ErrInvalid, ES256, ES384, RS256)
}

// load reads a key that was kept.
func (k keyState) load(alg string) (*signer, error) {
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(k.Certificate)
	s := &signer{alg: alg, id: encode64(digest[:]), cert: cert}
	if s.jwk, err = keyJWK(cert); err != nil {
		return nil, err
	}
	s.jwk["kid"], s.jwk["use"], s.jwk["alg"] = s.id, "sig", alg
	if k.Retired != 0 {
		return s, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(k.Private)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	s.key = key
	return s, nil
}

// keyJWK is the JWK (RFC 7517) of a certificate's key, with the certificate.
func keyJWK(cert *x509.Certificate) (map[string]any, error) {
	out := map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(cert.Raw)}}
	switch k := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		half := len(point) / 2
		out["kty"], out["crv"], out["x"], out["y"] = "EC", k.Params().Name, encode64(point[1:1+half]), encode64(point[1+half:])
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", encode64(k.N.Bytes()), encode64(big.NewInt(int64(k.E)).Bytes())
	default:
		return nil, fmt.Errorf("%w: the certificate's key is neither RSA nor ECDSA", ErrInvalid)
	}
	return out, nil
}

// sign makes a JWT of claims. jku says where the key set is; nobody should use it
// to decide which keys to believe.
func (s *signer) sign(claims map[string]any, jku string) (string, error) {
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		JKU string `json:"jku"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{s.alg, jku, s.id, "JWT"})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := encode64(header) + "." + encode64(body)
	sig, err := s.signature([]byte(input))
	if err != nil {
		return "", err
	}
	return input + "." + encode64(sig), nil
}

// signature is a JWS signature (RFC 7518 sections 3.3 and 3.4).
func (s *signer) signature(input []byte) ([]byte, error) {
	switch key := s.key.(type) {
	case *rsa.PrivateKey:
		digest := sha256.Sum256(input)
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	case *ecdsa.PrivateKey:
		size, digest := (key.Params().BitSize+7)/8, digestFor(s.alg, input)
		r, t, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		t.FillBytes(out[size:])
		return out, nil
	}
	return nil, errors.New("the provider's key is retired")
}

func digestFor(alg string, b []byte) []byte {
	if alg == ES384 {
		d := sha512.Sum384(b)
		return d[:]
	}
	d := sha256.Sum256(b)
	return d[:]
}

// unsigned is a JWT that nobody signed (RFC 7519 section 6): what Microsoft's
// service answers when a policy is only tried out.
func unsigned(claims map[string]any) (string, error) {
	body, err := json.Marshal(claims)
	return encode64([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode64(body) + ".", err
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
