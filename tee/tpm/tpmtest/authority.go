package tpmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Authority certifies attestation keys.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// CertificateOptions say what a certificate is to be. The zero value is a good
// one, from a year before At to a year after.
type CertificateOptions struct {
	From, To time.Time
	KeyUsage x509.KeyUsage           // 0: digitalSignature, or an authority's
	Purposes []asn1.ObjectIdentifier // nil: attestation key of the TCG
	CA       bool
	Emulated bool // the certificate says that the TPM is emulated
}

// Endorsement are the options of a certificate of an RSA endorsement key.
func Endorsement() CertificateOptions {
	return CertificateOptions{KeyUsage: x509.KeyUsageKeyEncipherment, Purposes: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}}
}

// NewAuthority returns an authority that parent certified, or a root if parent is
// nil.
func NewAuthority(tb testing.TB, name string, parent *Authority, o CertificateOptions) *Authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	a := &Authority{key: key}
	o.CA = true
	template := o.template(name)
	issuer := parent
	if parent == nil {
		issuer = &Authority{Certificate: template, key: key}
	}
	a.Certificate, err = x509.ParseCertificate(issue(tb, template, issuer, key.Public()))
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// Certify returns a certificate in DER for a key. Like those of real TPMs it has
// no subject, and a critical name of who made the TPM.
func (a *Authority) Certify(tb testing.TB, key crypto.PublicKey, o CertificateOptions) []byte {
	tb.Helper()
	return issue(tb, o.template(""), a, key)
}

func issue(tb testing.TB, template *x509.Certificate, issuer *Authority, key crypto.PublicKey) []byte {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, key, issuer.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func (o CertificateOptions) template(name string) *x509.Certificate {
	if o.From.IsZero() {
		o.From = At.AddDate(-1, 0, 0)
	}
	if o.To.IsZero() {
		o.To = At.AddDate(1, 0, 0)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(serial.Add(1)), NotBefore: o.From, NotAfter: o.To, KeyUsage: o.KeyUsage, IsCA: o.CA, BasicConstraintsValid: true}
	if o.Emulated {
		t.Policies = []x509.OID{tee.EmulatedTPM()}
	}
	if name != "" {
		t.Subject = pkix.Name{CommonName: name, Organization: []string{"cloister test"}}
		if t.KeyUsage == 0 {
			t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
		return t
	}
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature
	}
	t.UnknownExtKeyUsage = o.Purposes
	if o.Purposes == nil {
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}
	}
	t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: makerName()}}
	return t
}

// makerName is a subject alternative name with a directory name: the maker's id
// (TCG EK Credential Profile, section 3.2.9).
func makerName() []byte {
	name, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 1}, Value: "id:00000000"}}})
	if err != nil {
		panic(err) // constant
	}
	b, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}})
	if err != nil {
		panic(err) // constant
	}
	return b
}

// Input is At with the authority as root.
func (a *Authority) Input() tee.Input {
	return tee.Input{At: At, Roots: tee.Roots{a.Certificate}}
}

// CRL returns a revocation list in DER by a, with the serial numbers of the given
// certificates. It is current from a day before At for two days.
func (a *Authority) CRL(tb testing.TB, revoked ...*x509.Certificate) []byte {
	tb.Helper()
	template := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: At.AddDate(0, 0, -1), NextUpdate: At.AddDate(0, 0, 1)}
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
