// Package snptest gives other packages' tests an AMD of their own: roots,
// signing certificates, chip and provider keys, revocation lists, and reports
// that they sign, good or wrong in any way.
//
// It protects nothing and is for tests only. Its certificates bear AMD's names
// and are made with keys of 2048 bits; nobody trusts them who was not given
// [Manufacturer.Roots].
package snptest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// At is a time at which everything that this package makes is valid, unless it
// was asked for otherwise.
var At = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// When certificates and lists begin and end to be valid.
var (
	notBefore = At.AddDate(-1, 0, 0)
	notAfter  = At.AddDate(6, 0, 0)
)

// Authority is a certificate that issues others, and its key.
type Authority struct {
	Certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// Manufacturer plays AMD for one product.
type Manufacturer struct {
	Product snp.Product
	ARK     *Authority // the root
	ASK     *Authority // issues VCEKs
	ASVK    *Authority // issues VLEKs
}

// New returns a manufacturer of processors of product p, with the names that
// AMD's certificates have.
func New(tb testing.TB, p snp.Product) *Manufacturer {
	tb.Helper()
	m := &Manufacturer{Product: p}
	m.ARK = NewAuthority(tb, "ARK-"+string(p), nil, Validity{})
	m.ASK = NewAuthority(tb, "SEV-"+string(p), m.ARK, Validity{})
	m.ASVK = NewAuthority(tb, "SEV-VLEK-"+string(p), m.ARK, Validity{})
	return m
}

// Roots are what a relying party must be given to verify reports of this
// manufacturer's processors.
func (m *Manufacturer) Roots() tee.Roots {
	return tee.Roots{m.ARK.Certificate, m.ASK.Certificate, m.ASVK.Certificate}
}

// Input is Roots and At.
func (m *Manufacturer) Input() tee.Input { return tee.Input{Roots: m.Roots(), At: At} }

// Validity is when a certificate or list is valid. The zero value is from a
// year before [At] to six years after.
type Validity struct{ From, To time.Time }

func (v Validity) orDefault() Validity {
	if v.From.IsZero() {
		v.From = notBefore
	}
	if v.To.IsZero() {
		v.To = notAfter
	}
	return v
}

// NewAuthority returns a certificate authority that parent issued, or a root if
// parent is nil. Each has its own key and serial number.
func NewAuthority(tb testing.TB, name string, parent *Authority, v Validity) *Authority {
	tb.Helper()
	return newAuthority(tb, name, newRSAKey(tb), parent, v, true)
}

// NewLeafAuthority is a certificate that parent issued and that is none of an
// authority, for tests that let it issue nevertheless.
func NewLeafAuthority(tb testing.TB, name string, parent *Authority) *Authority {
	tb.Helper()
	return newAuthority(tb, name, newRSAKey(tb), parent, Validity{}, false)
}

// Reissue returns another certificate by parent for the key and name of a.
func (a *Authority) Reissue(tb testing.TB, parent *Authority, v Validity) *Authority {
	tb.Helper()
	return newAuthority(tb, a.Certificate.Subject.CommonName, a.key, parent, v, true)
}

func newAuthority(tb testing.TB, name string, key *rsa.PrivateKey, parent *Authority, v Validity, ca bool) *Authority {
	tb.Helper()
	a := &Authority{key: key}
	v = v.orDefault()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(nextSerial()), Subject: pkix.Name{CommonName: name, Organization: []string{"cloister test"}},
		NotBefore: v.From, NotAfter: v.To, IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	issuer := parent
	if parent == nil {
		issuer = &Authority{Certificate: template, key: a.key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, &a.key.PublicKey, issuer.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.Certificate, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return a
}

// CRL returns a revocation list in DER by a, with the serial numbers of the given
// certificates.
func (a *Authority) CRL(tb testing.TB, v Validity, revoked ...*x509.Certificate) []byte {
	tb.Helper()
	v = v.orDefault()
	template := &x509.RevocationList{Number: big.NewInt(nextSerial()), ThisUpdate: v.From, NextUpdate: v.To, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: v.From})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

var serials struct {
	sync.Mutex
	last int64
}

func nextSerial() int64 {
	serials.Lock()
	defer serials.Unlock()
	serials.last++
	return 0x10000 + serials.last
}

// newRSAKey is short enough to be made in a moment.
func newRSAKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
