package tpm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// EKCertificateIndex is the NV index where the maker of a TPM puts the certificate
// of its RSA endorsement key ("TCG EK Credential Profile" section 2.2.1.4). The
// index may be longer than the certificate: see [TrimCertificate].
const EKCertificateIndex = 0x01C00002

// MaxCertificate is the largest certificate, in bytes, that is read.
const MaxCertificate = maxCertificate

// TrimCertificate cuts off what follows a DER certificate in its NV index.
func TrimCertificate(b []byte) ([]byte, error) {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(b, &outer)
	if err != nil {
		return nil, tee.Refuse(tee.TPM, tee.CodeParse, "ek certificate", "a DER certificate", fmt.Sprintf("%d other bytes", len(b)), "")
	}
	return b[:len(b)-len(rest)], nil
}

// Endorsement is an endorsement key that the maker of its TPM vouches for.
type Endorsement struct {
	Key         crypto.PublicKey
	Certificate *x509.Certificate
	// Emulated is what the certificate says; see tee.EmulatedTPM.
	Emulated bool
}

// CheckEndorsement verifies the certificate of an endorsement key, the first of the
// given ones, up to one of in.Roots; the others are issuers on the way.
// in.Endorsements.CRLs are used as the [Verifier] does. It returns nil and failures
// if not: CodeParse, CodeChain, CodeExpired, CodeRevoked, CodeTime, CodeUnsupported.
func CheckEndorsement(certificates [][]byte, in tee.Input) (*Endorsement, []tee.Failure) {
	const claim = "ek certificate"
	a := &attestationKey{}
	if in.At.IsZero() {
		a.fail(tee.CodeTime, "time", "the time to verify at", "none", "")
		return nil, a.failures
	}
	if len(certificates) == 0 {
		a.fail(tee.CodeParse, claim, "one", "none", "the TPM has no certificate of its maker")
		return nil, a.failures
	}
	cert, err := parseCertificate(certificates[0])
	if err != nil {
		a.fail(tee.CodeParse, claim, "a DER certificate", fmt.Sprintf("%.200q", err.Error()), "")
		return nil, a.failures
	}
	if err := checkKey(cert.PublicKey); err != nil {
		a.fail(tee.CodeUnsupported, claim, "RSA of 2048 bits or more, or a NIST curve", err.Error(), "")
	}
	wanted := x509.KeyUsageKeyEncipherment
	if _, isRSA := cert.PublicKey.(*rsa.PublicKey); !isRSA {
		wanted = x509.KeyUsageKeyAgreement
	}
	if cert.IsCA || cert.KeyUsage&wanted == 0 || !slices.ContainsFunc(cert.UnknownExtKeyUsage, oidKeyPurposeEK.Equal) {
		a.fail(tee.CodeChain, claim, "one of an endorsement key", fmt.Sprintf("authority %t, key usage %#x, purposes %v", cert.IsCA, int(cert.KeyUsage), cert.UnknownExtKeyUsage), "")
	}
	a.chainToRoot(claim, cert, certificates[1:], in)
	if len(a.failures) > 0 {
		return nil, a.failures
	}
	return &Endorsement{Key: cert.PublicKey, Certificate: cert, Emulated: tee.IsEmulatedTPM(cert)}, nil
}

// Certify returns the certificate (DER) of an attestation key, as an attestation CA
// issues it once the TPM of the endorsement key has proven that it holds the
// attestation key ([MakeCredential]): the caller has seen to that, and to
// [Public.CheckAK]. It is for signing, for keys of a TPM (2.23.133.8.3), names the
// TPM by its endorsement key, and says when that is emulated.
func (e *Endorsement) Certify(ak *Public, issuer *x509.Certificate, signer crypto.Signer, from, to time.Time) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7F | 0x40 // positive, and of one length
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "attestation key", SerialNumber: KeyID(e.Key)},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidKeyPurposeAK},
		BasicConstraintsValid: true,
	}
	if e.Emulated {
		t.Policies = []x509.OID{tee.EmulatedTPM()}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, ak.Key, signer)
	if err != nil {
		return nil, fmt.Errorf("certify attestation key: %w", err)
	}
	return der, nil
}
