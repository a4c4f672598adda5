// Package dcaptest gives other packages' tests an Intel of their own: a root,
// PCK certificates of platforms, quotes of SGX and TDX that they sign, TCB
// information, identities and revocation lists, good or wrong in any way.
//
// It protects nothing and is for tests only. Nobody trusts its certificates who
// was not given [Intel.Roots].
package dcaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// At is a time at which everything that this package makes is valid, unless it
// was asked for otherwise.
var At = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// Validity is when a certificate, list or document is valid. The zero value is
// from a year before [At] to six years after.
type Validity struct{ From, To time.Time }

func (v Validity) orDefault() Validity {
	if v.From.IsZero() {
		v.From = At.AddDate(-1, 0, 0)
	}
	if v.To.IsZero() {
		v.To = At.AddDate(6, 0, 0)
	}
	return v
}

// Authority is a certificate and its key.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// Intel plays Intel.
type Intel struct {
	Root       *Authority
	PlatformCA *Authority // issues PCK certificates
	TCBSigner  *Authority // signs TCB information and identities
}

// New returns an Intel with certificates named as Intel's are.
func New(tb testing.TB) *Intel {
	tb.Helper()
	root := NewAuthority(tb, CertificateOptions{Name: "Test SGX Root CA", CA: true})
	return &Intel{
		Root:       root,
		PlatformCA: NewAuthority(tb, CertificateOptions{Name: "Test SGX PCK Platform CA", CA: true, Issuer: root}),
		TCBSigner:  NewAuthority(tb, CertificateOptions{Name: "Test SGX TCB Signing", Issuer: root}),
	}
}

// Roots are what a relying party must be given to believe this Intel.
func (i *Intel) Roots() tee.Roots { return tee.Roots{i.Root.Certificate} }

// CertificateOptions describe a certificate.
type CertificateOptions struct {
	Name       string
	CA         bool
	Issuer     *Authority // nil: self-signed
	Validity   Validity
	Extensions []pkix.Extension
	Key        *ecdsa.PrivateKey // nil: a new one on P-256
}

// NewAuthority makes a certificate with a serial number of its own.
func NewAuthority(tb testing.TB, o CertificateOptions) *Authority {
	tb.Helper()
	a := &Authority{Key: o.Key}
	if a.Key == nil {
		a.Key = NewKey(tb)
	}
	v := o.Validity.orDefault()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: o.Name, Organization: []string{"cloister test"}},
		NotBefore: v.From, NotAfter: v.To, IsCA: o.CA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: o.Extensions, SignatureAlgorithm: x509.ECDSAWithSHA256,
	}
	if o.CA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	issuer := o.Issuer
	if issuer == nil {
		issuer = &Authority{Certificate: template, Key: a.Key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, &a.Key.PublicKey, issuer.Key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.Certificate, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return a
}

// NewKey returns a new P-256 key.
func NewKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// CRL returns a revocation list in DER by a, with the serial numbers of the given
// certificates.
func (a *Authority) CRL(tb testing.TB, v Validity, revoked ...*x509.Certificate) []byte {
	tb.Helper()
	v = v.orDefault()
	template := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: v.From, NextUpdate: v.To, SignatureAlgorithm: x509.ECDSAWithSHA256}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: v.From})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// serial is the last serial number: lists revoke by it, so no two certificates
// of a test may share one.
var serial atomic.Int64
