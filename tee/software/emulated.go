//go:build linux

package software

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Object identifiers of the TCG ("TCG EK Credential Profile" sections 3.2.9 and
// 3.2.16).
var (
	oidEndorsementKey = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidManufacturer   = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidSubjectAlt     = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// CertifyTPM returns the certificate (DER, below the development root) of the
// endorsement key of an emulated TPM: the platform is the maker of those that its
// machines have. The certificate says that the TPM is emulated (tee.EmulatedTPM),
// as everything does that this platform vouches for. key is the RSA key in PKIX
// form. Errors are *tee.Error: CodeParse, CodeUnsupported, CodeUnavailable.
func (p *Platform) CertifyTPM(key []byte) ([]byte, error) {
	const op = "certify emulated TPM"
	public, err := x509.ParsePKIXPublicKey(key)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeParse, Op: op, Err: err}
	}
	if k, ok := public.(*rsa.PublicKey); !ok || k.N.BitLen() < 2048 || k.N.BitLen() > 4096 {
		return nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: errors.New("an endorsement key is RSA of 2048 to 4096 bits here")}
	}
	der, err := p.fuses.issueEndorsementKey(public, time.Now())
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	return der, nil
}

func (f fuses) issueEndorsementKey(public crypto.PublicKey, now time.Time) ([]byte, error) {
	issuer, err := x509.ParseCertificate(f.RootCertificate)
	if err != nil {
		return nil, err
	}
	t, err := template("Cloister Emulated TPM (SIMULATED)", now)
	if err != nil {
		return nil, err
	}
	maker, err := asn1.Marshal(pkix.RDNSequence{{{Type: oidManufacturer, Value: "id:00000000"}}})
	if err != nil {
		return nil, err
	}
	// A directory name: GeneralName [4] (RFC 5280 section 4.2.1.6).
	name, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: maker}})
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageKeyEncipherment
	t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEndorsementKey}
	t.Policies = []x509.OID{tee.EmulatedTPM()}
	t.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAlt, Value: name}} // not critical: there is a subject
	root, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), f.RootKey)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, t, issuer, public, root)
}
