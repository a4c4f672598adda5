// Package attesttest is a fake TEE for tests of programs that attest or rely on
// attestation. [New] makes a throw-away root, a platform key under it and one
// fake instance whose claims the test chooses.
//
// # What it protects against
//
// Nothing: it is for tests. It goes through the same steps as real evidence
// (parse, chain, signature, binding), so a relying party that skips one fails
// its test.
//
// # What it does not protect against
//
// Confusion with a real TEE is ruled out: evidence of a fake always has the
// kind "software" and the claim simulated = true, whatever the test sets, its
// root is made anew by each New, and production policies refuse it.
package attesttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"reflect"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
)

// magic begins the evidence, so that it is told apart from package software's.
const magic = "cloister attesttest v1\n"

// TEE is one fake instance: a [tee.Attester] and the [tee.Verifier] for it. It
// is safe for concurrent use.
type TEE struct {
	root   *x509.Certificate
	leaf   *x509.Certificate
	key    *ecdsa.PrivateKey
	mu     sync.Mutex
	claims tee.Claims
}

// New returns a fake whose evidence carries the given claims; kind, Simulated,
// Platform and ReportData are set by the fake itself, and an empty Measurement
// or TCB gets a value, so New(tee.Claims{}) is a plain, acceptable instance.
func New(claims tee.Claims) *TEE {
	rootKey, key := newKey(), newKey()
	root := certificate(template("attesttest root", 1, true), nil, rootKey, rootKey)
	leaf := certificate(template("attesttest platform", 2, false), root, key, rootKey)
	t := &TEE{root: root, leaf: leaf, key: key}
	if len(claims.Measurement) == 0 {
		m := sha256.Sum256([]byte("attesttest measurement"))
		claims.Measurement = m[:]
	}
	if claims.TCB == "" {
		claims.TCB = tee.TCBNotApplicable
	}
	t.claims = claims
	return t
}

// Set changes the claims of the evidence made from now on.
func (t *TEE) Set(change func(*tee.Claims)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.claims)
}

// Claims returns the claims that the next evidence will carry, without report
// data.
func (t *TEE) Claims() tee.Claims {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fixed(t.claims)
}

// Roots returns the fake's root, the only one its evidence verifies under.
func (t *TEE) Roots() tee.Roots { return tee.Roots{t.root} }

// Input returns what Verify needs to know: the root and the time.
func (t *TEE) Input(at time.Time) tee.Input { return tee.Input{Roots: t.Roots(), At: at} }

// Kind is [tee.Software].
func (t *TEE) Kind() tee.Kind { return tee.Software }

// fixed sets what a test cannot choose.
func (t *TEE) fixed(c tee.Claims) tee.Claims {
	platform := sha256.Sum256(t.leaf.RawSubjectPublicKeyInfo)
	c.TEE, c.Simulated, c.Platform = tee.Software, true, hex.EncodeToString(platform[:])
	return c
}

// body is the signed part of the evidence.
type body struct {
	Claims     tee.Claims `cbor:"1,keyasint"`
	ReportData []byte     `cbor:"2,keyasint"`
}

type envelope struct {
	Body      []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"` // ECDSA P-256, ASN.1, over SHA-256 of Body
}

// Evidence implements [tee.Attester].
func (t *TEE) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: "make fake evidence", Err: err}
	}
	b, err := cbor.Marshal(body{Claims: t.Claims(), ReportData: reportData[:]})
	if err != nil {
		return tee.Evidence{}, fmt.Errorf("encode fake evidence: %w", err)
	}
	digest := sha256.Sum256(b)
	sig, err := ecdsa.SignASN1(rand.Reader, t.key, digest[:])
	if err != nil {
		return tee.Evidence{}, fmt.Errorf("sign fake evidence: %w", err)
	}
	data, err := cbor.Marshal(envelope{Body: b, Signature: sig})
	if err != nil {
		return tee.Evidence{}, fmt.Errorf("encode fake evidence: %w", err)
	}
	return tee.Evidence{Kind: tee.Software, Data: append([]byte(magic), data...), Certificates: [][]byte{t.leaf.Raw}}, nil
}

// Detect implements [tee.Verifier].
func (t *TEE) Detect(data []byte) bool {
	return len(data) >= len(magic) && string(data[:len(magic)]) == magic
}

// Verify implements [tee.Verifier]. Like package software it embeds no root:
// in.Roots must hold the one of [TEE.Roots].
func (t *TEE) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	refuse := func(code tee.Code, claim, want, got string) (tee.Claims, []tee.Finding, error) {
		return tee.Claims{}, nil, tee.Refuse(tee.Software, code, claim, want, got, "this is a fake for tests")
	}
	if in.At.IsZero() {
		return refuse(tee.CodeTime, "at", "a time", "none")
	}
	if len(ev.Data) > tee.MaxEvidence || !t.Detect(ev.Data) {
		return refuse(tee.CodeParse, "evidence", "attesttest evidence", fmt.Sprintf("%d bytes", len(ev.Data)))
	}
	var env envelope
	var b body
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxArrayElements: 1024, MaxMapPairs: 1024, MaxNestedLevels: 8, DefaultMapType: reflect.TypeFor[map[string]any](),
	}.DecMode()
	if err != nil {
		return tee.Claims{}, nil, err
	}
	if err := mode.Unmarshal(ev.Data[len(magic):], &env); err != nil {
		return refuse(tee.CodeParse, "evidence", "an envelope", "other bytes")
	}
	leaf, code, got := t.chain(ev, in)
	if leaf == nil {
		return refuse(code, "platform certificate", "a chain to the given root", got)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	digest := sha256.Sum256(env.Body)
	if !ok || !ecdsa.VerifyASN1(key, digest[:], env.Signature) {
		return refuse(tee.CodeSignature, "signature", "by the platform key", "another")
	}
	if err := mode.Unmarshal(env.Body, &b); err != nil || len(b.ReportData) != 64 {
		return refuse(tee.CodeParse, "evidence", "claims", "other bytes")
	}
	platform := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	c := b.Claims
	c.TEE, c.Simulated, c.Platform, c.ReportData = tee.Software, true, hex.EncodeToString(platform[:]), b.ReportData
	return c, nil, nil
}

// chain returns the platform certificate if it chains to a given root at the
// given time, else the reason.
func (t *TEE) chain(ev tee.Evidence, in tee.Input) (*x509.Certificate, tee.Code, string) {
	if len(in.Roots) == 0 {
		return nil, tee.CodeChain, "no roots"
	}
	if len(ev.Certificates) != 1 {
		return nil, tee.CodeCollateralMissing, fmt.Sprintf("%d certificates", len(ev.Certificates))
	}
	leaf, err := x509.ParseCertificate(ev.Certificates[0])
	if err != nil {
		return nil, tee.CodeParse, "not a certificate"
	}
	pool := x509.NewCertPool()
	for _, r := range in.Roots {
		pool.AddCert(r)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: in.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, tee.CodeChain, "another root"
	}
	return leaf, "", ""
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("attesttest: generate key: " + err.Error()) // crypto/rand does not fail
	}
	return key
}

// template is valid from 2000 to 2100, so that tests may use any clock.
func template(name string, serial int64, ca bool) *x509.Certificate {
	usage := x509.KeyUsageDigitalSignature
	if ca {
		usage = x509.KeyUsageCertSign
	}
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true, KeyUsage: usage,
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func certificate(tmpl, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		panic("attesttest: make certificate: " + err.Error()) // our template is valid
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic("attesttest: parse certificate: " + err.Error())
	}
	return cert
}

// Verified is a shortcut for tests of what comes after verification: evidence
// over reportData, verified and bound.
func (t *TEE) Verified(reportData [64]byte, at time.Time) (*attest.Verified, error) {
	ev, err := t.Evidence(context.Background(), reportData)
	if err != nil {
		return nil, err
	}
	return attest.NewVerifier(t).Verify(ev, t.Input(at), attest.BindTo(reportData))
}

var (
	_ tee.Attester = (*TEE)(nil)
	_ tee.Verifier = (*TEE)(nil)
)
