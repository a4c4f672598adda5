// Package nitrotest gives other packages' tests an AWS of their own: a root,
// intermediates, enclaves with their certificates, attestation documents that
// they sign, good or wrong in any way, and an NSM that answers as the device
// does.
//
// It protects nothing and is for tests only. Nobody trusts its certificates who
// was not given [AWS.Roots].
package nitrotest

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
var At = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Authority is a certificate with its key.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// AWS has a root and the three intermediates that a real bundle has: of the
// region, the zone and the parent instance.
type AWS struct {
	Root, Region, Zone, Instance *Authority
}

// New returns an AWS with the names that its certificates have.
func New(tb testing.TB) *AWS {
	tb.Helper()
	a := &AWS{Root: NewAuthority(tb, nil, Options{Name: "aws.nitro-enclaves"})}
	a.Region = NewAuthority(tb, a.Root, Options{Name: "0123.us-test-1.aws.nitro-enclaves", PathLength: 2})
	a.Zone = NewAuthority(tb, a.Region, Options{Name: "4567.zonal.us-test-1.aws.nitro-enclaves", PathLength: 1})
	a.Instance = NewAuthority(tb, a.Zone, Options{Name: "i-0123456789abcdef0.us-test-1.aws.nitro-enclaves", PathLengthZero: true})
	return a
}

// Roots are what a relying party must be given to verify documents of this AWS.
func (a *AWS) Roots() tee.Roots { return tee.Roots{a.Root.Certificate} }

// Input is Roots and At.
func (a *AWS) Input() tee.Input { return tee.Input{Roots: a.Roots(), At: At} }

// Options say what a certificate is to be. The zero value is a good authority.
type Options struct {
	Name           string
	From, To       time.Time      // zero: a day around At
	PathLength     int            // 0: none, unless PathLengthZero
	PathLengthZero bool           // no authority below it
	Leaf           bool           // an enclave's: not an authority
	Curve          elliptic.Curve // nil: P-384
	KeyUsage       x509.KeyUsage  // 0: as AWS has it
	// SignatureAlgorithm is the issuer's; 0: ECDSA with SHA-384.
	SignatureAlgorithm x509.SignatureAlgorithm
	// Extensions are added as they are.
	Extensions []pkix.Extension
}

// NewAuthority returns a certificate that parent issued, or a root if parent is
// nil. Whether parent may issue it is not checked.
func NewAuthority(tb testing.TB, parent *Authority, o Options) *Authority {
	tb.Helper()
	if o.Curve == nil {
		o.Curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(o.Curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	a := &Authority{key: key}
	template := o.template()
	issuer := parent
	if parent == nil {
		issuer = &Authority{Certificate: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, key.Public(), issuer.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.Certificate, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return a
}

func (o Options) template() *x509.Certificate {
	if o.From.IsZero() {
		o.From = At.Add(-12 * time.Hour)
	}
	if o.To.IsZero() {
		o.To = At.Add(12 * time.Hour)
	}
	if o.KeyUsage == 0 {
		o.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		if o.Leaf {
			o.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
		}
	}
	if o.SignatureAlgorithm == 0 {
		o.SignatureAlgorithm = x509.ECDSAWithSHA384
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: o.Name, Organization: []string{"cloister test"}},
		NotBefore: o.From, NotAfter: o.To, IsCA: !o.Leaf, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: o.KeyUsage, SignatureAlgorithm: o.SignatureAlgorithm, ExtraExtensions: o.Extensions,
	}
	if o.PathLength > 0 || o.PathLengthZero {
		t.MaxPathLen, t.MaxPathLenZero = o.PathLength, o.PathLengthZero
	}
	return t
}

// CRL returns a revocation list in DER by a, with the serial numbers of the given
// certificates. It is current from a day before At for two days.
func (a *Authority) CRL(tb testing.TB, revoked ...*x509.Certificate) []byte {
	tb.Helper()
	template := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: At.AddDate(0, 0, -1), NextUpdate: At.AddDate(0, 0, 1), SignatureAlgorithm: x509.ECDSAWithSHA384}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: At})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// serial is the last serial number.
var serial atomic.Int64
