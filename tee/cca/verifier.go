package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// TrustedCPAK is the name in Endorsements.Collateral of the platform keys (CCA
// Platform Attestation Keys) that the relying party enrolled: PEM blocks PUBLIC KEY
// (PKIX), nothing else, at most 256. The makers of platforms publish them.
const TrustedCPAK = "cca-cpak.pem"

// Bounds of the enrolled keys.
const (
	maxTrusted    = 256     // each is tried
	maxTrustedPEM = 1 << 20 // bytes
)

// Verifier verifies attestation tokens: the form, that an enrolled key signed the
// platform token, that the realm's key signed the realm token, and that the
// platform vouches for that key.
//
// Trusted are the keys in Endorsements.Collateral under [TrustedCPAK] and nothing
// else: there are no embedded roots, and certificates and revocation lists are not
// looked at.
//
// Claims of a verified token: Measurement is the realm's initial measurement;
// ReportData is its challenge, 64 bytes; LaunchDigest is the personalization value
// where that is 32 bytes and zeroes; Debug is any lifecycle of the platform other
// than secured; Platform is the SHA-256 of the CPAK's PKIX form, for the instance id
// is what the platform calls itself; the TCB status is Unknown. InstanceID, Signer,
// Product and SVN are empty. Vendor has profile, implementation_id, instance_id,
// platform_config (hex), lifecycle (a word), lifecycle_value, software_components
// (each type, measurement, version, signer and hash_algorithm),
// platform_hash_algorithm, verification_service, realm_profile,
// realm_initial_measurement, rem0 to rem3, realm_personalization_value,
// realm_hash_algorithm and realm_key (SHA-256 of its COSE form).
//
// It is pure and safe for concurrent use; the zero value works.
type Verifier struct{}

// New returns a verifier.
func New() *Verifier { return &Verifier{} }

// Kind is tee.ArmCCA.
func (v *Verifier) Kind() tee.Kind { return tee.ArmCCA }

// Detect reports whether data begins as a token does, in either form.
func (v *Verifier) Detect(data []byte) bool {
	rest, ok := bytes.CutPrefix(data, headCollection)
	if !ok {
		rest, ok = bytes.CutPrefix(data, headCMW)
	}
	return ok && len(rest) > 0 && rest[0] == 0xA2 // a map of two
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report data
// is the expected one is for the caller to check. The error is a *tee.VerifyError
// that lists everything that is wrong: CodeUnknownFormat (other kind of evidence),
// CodeTime (Input.At is zero), CodeParse, CodeUnsupported (other algorithms and
// profiles), CodeChain (no key is enrolled), CodeSignature, CodeBinding (the tokens
// do not belong together).
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	if ev.Kind != tee.ArmCCA {
		return tee.Claims{}, nil, tee.Refuse(tee.ArmCCA, tee.CodeUnknownFormat, "tee", string(tee.ArmCCA), fmt.Sprintf("%.32q", string(ev.Kind)), "")
	}
	c := &check{}
	if in.At.IsZero() {
		c.fail(tee.CodeTime, "time", "the time to verify at", "none", "")
	}
	keys := c.trusted(in.Endorsements.Collateral)
	t, err := ParseToken(ev.Data)
	if err != nil {
		e, ok := errors.AsType[*tee.VerifyError](err)
		if !ok {
			return tee.Claims{}, nil, tee.Refuse(tee.ArmCCA, tee.CodeParse, "token", "", fmt.Sprintf("%.200q", err.Error()), "")
		}
		c.failures = append(c.failures, e.Failures...)
		return c.refuse()
	}
	cpak := c.signer(t, keys)
	if !t.realm.by(t.realmKey) {
		c.fail(tee.CodeSignature, "realm token", "by the key in it", "not by it", "the token was altered")
	}
	if want := t.boundKey(); !bytes.Equal(want, t.Platform.Challenge) {
		c.fail(tee.CodeBinding, "platform challenge", hex.EncodeToString(want), hex.EncodeToString(t.Platform.Challenge), "the platform vouches for another realm's key")
	}
	if len(c.failures) > 0 || cpak == nil {
		return c.refuse()
	}
	return claimsFrom(t, cpak), nil, nil
}

// check collects what is found about one token.
type check struct{ failures []tee.Failure }

func (c *check) fail(code tee.Code, claim, want, got, hint string) {
	c.failures = append(c.failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
}

func (c *check) refuse() (tee.Claims, []tee.Finding, error) {
	return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.ArmCCA, Failures: c.failures}
}

// signer is which of the enrolled keys signed the platform token.
func (c *check) signer(t *Token, keys []*ecdsa.PublicKey) *ecdsa.PublicKey {
	for _, k := range keys {
		if t.platform.by(k) {
			return k
		}
	}
	if len(keys) > 0 {
		c.fail(tee.CodeSignature, "platform token", "by an enrolled platform key", "by none of them", "the token was altered, or the platform is not enrolled ("+TrustedCPAK+")")
	}
	return nil
}

// trusted reads the enrolled keys. A document that cannot be read is a failure: who
// altered it may have wanted to add one.
func (c *check) trusted(collateral map[string][]byte) []*ecdsa.PublicKey {
	b, ok := collateral[TrustedCPAK]
	if !ok {
		c.fail(tee.CodeChain, "platform key", "enrolled", "none is", "give the key that the platform's maker publishes ("+TrustedCPAK+")")
		return nil
	}
	keys, err := parseKeys(b)
	if err != nil {
		c.fail(tee.CodeParse, TrustedCPAK, "PEM blocks PUBLIC KEY on NIST curves", fmt.Sprintf("%.200s", err.Error()), "")
	}
	return keys
}

func parseKeys(b []byte) ([]*ecdsa.PublicKey, error) {
	if len(b) > maxTrustedPEM {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxTrustedPEM)
	}
	var keys []*ecdsa.PublicKey
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" || len(keys) == maxTrusted {
			return nil, fmt.Errorf("block %.32q, or more than %d", block.Type, maxTrusted)
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		key, ok := k.(*ecdsa.PublicKey)
		if !ok || key.Curve.Params().BitSize < 256 {
			return nil, fmt.Errorf("key of type %T", k)
		}
		keys, b = append(keys, key), rest
	}
	if len(keys) == 0 || len(bytes.TrimSpace(b)) > 0 {
		return nil, errors.New("no keys, or bytes after them")
	}
	return keys, nil
}

// KeyID names a platform key: the SHA-256 of its PKIX form in hex, empty for a key
// that has none. It is what claims have as Platform.
func KeyID(key *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
