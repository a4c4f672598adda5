package refvalues

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/attest"
)

// MaxUVM is how long an endorsement may be, in bytes. Real ones have 6 KB with a
// receipt of a transparency ledger.
const MaxUVM = 64 << 10

// uvmMeasurement is the size of an SEV-SNP launch measurement.
const uvmMeasurement = 48

// UVMIssuer says whose endorsements of utility VMs are trusted, and for what.
// The zero value trusts nobody.
type UVMIssuer struct {
	// DID is the issuer as it stands in endorsements: a did:x509 that
	// [ParseDIDX509] reads.
	DID string
	// Feed names the images that the issuer speaks of.
	Feed string
}

// MicrosoftUVM is who endorses the utility VMs of Azure's confidential
// containers: identifiers that Microsoft says are fixed for as long as its root
// certificate lasts, to 2047 (github.com/microsoft/confidential-aci-examples,
// docs/Confidential_ACI_SCHEME.md, "reference-info-base64").
func MicrosoftUVM() UVMIssuer {
	return UVMIssuer{
		DID:  "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2",
		Feed: "ContainerPlat-AMD-UVM",
	}
}

// Check says why an issuer cannot be trusted with anything: for configurations,
// before there is an endorsement. The error wraps [ErrFormat].
func (i UVMIssuer) Check() error {
	_, err := i.did()
	return err
}

func (i UVMIssuer) did() (DIDX509, error) {
	if i.Feed == "" || len(i.Feed) > maxText {
		return DIDX509{}, malformed("an issuer needs a feed of at most %d bytes", maxText)
	}
	return ParseDIDX509(i.DID)
}

// UVM is what an endorsement says of a utility VM: the small virtual machine in
// which a confidential container runs.
type UVM struct {
	Issuer, Feed string
	// GuestSVN is the security version of the image (kernel and user land). It is
	// not the guest SVN of an SEV-SNP report, which the ID block sets. Which is the
	// least that will do is for the caller: older endorsements stay as good as
	// they were.
	GuestSVN uint64
	// Measurement is the launch measurement that a report has to have, 48 bytes.
	Measurement []byte
	// SignedAt is when the issuer says that it signed; zero if it does not say.
	SignedAt time.Time
}

// VerifyUVM verifies Microsoft's endorsement of a utility VM, "UVM endorsement"
// or "reference info": a COSE_Sign1 (RFC 9052 section 4.2, with tag 18) that the
// issuer signed. There are two forms, and both are read:
//
//   - a COSE hash envelope (RFC 9995), since ContainerPlat 0.2.10: issuer, feed
//     and "svn" are CWT claims in the protected header (RFC 9597), and the payload
//     is the measurement;
//   - JSON before that: "iss", "feed" and perhaps "signingtime" are protected
//     headers, and the payload has the members x-ms-sevsnpvm-launchmeasurement,
//     x-ms-sevsnpvm-guestsvn and perhaps x-ms-sevsnpvm-guestsvn-int
//     (Confidential_ACI_SCHEME.md). Other members are ignored, as that page
//     announces some.
//
// It wants that issuer and feed are the trusted ones to the letter, that the
// did:x509 resolves with the certificates in the header x5chain (see
// [DIDX509.Resolve]), and that the key of the first certificate made the
// signature, with ES256, ES384 or ES512 on its own curve, or PS256, PS384 or
// PS512. What is not protected by the signature, such as receipts of a ledger,
// has no part in the result.
//
// Certificates are compared with the time that the issuer says it signed at, and
// never with the present: an image is in use for longer than the certificate of
// whoever signed it, and Microsoft says so on the same page. So a stolen key is
// as good as ever once its certificate has expired, and only the issuer's own
// word tells when it signed.
//
// Errors wrap [ErrFormat] if it is no endorsement that is read here, or the
// issuer is incomplete, and [ErrNotTrusted] if it is not of the issuer.
func VerifyUVM(b []byte, trusted UVMIssuer) (UVM, error) {
	did, err := trusted.did()
	if err != nil {
		return UVM{}, err
	}
	m, err := readSign1(b)
	if err != nil {
		return UVM{}, err
	}
	u, err := m.statement()
	if err != nil {
		return UVM{}, err
	}
	if u.Issuer != trusted.DID {
		return UVM{}, untrusted("the issuer is %q", clip(u.Issuer))
	}
	if u.Feed != trusted.Feed {
		return UVM{}, untrusted("the feed is %q, want %q", clip(u.Feed), clip(trusted.Feed))
	}
	key, err := did.Resolve(m.chain, u.SignedAt)
	if err != nil {
		return UVM{}, err
	}
	if err := m.verify(key); err != nil {
		return UVM{}, err
	}
	return u, nil
}

// statement reads what the message says. Nothing of it is verified yet.
func (m *sign1) statement() (UVM, error) {
	_, claims := m.header[labelCWTClaims]
	_, issuer := m.header["iss"]
	switch {
	case claims && !issuer:
		return m.fromEnvelope()
	case issuer && !claims:
		return m.fromJSON()
	}
	return UVM{}, malformed("COSE header: want the issuer once, in CWT claims or as iss")
}

// fromEnvelope reads the form whose payload is the measurement. RFC 9995 section
// 4 has the labels: 258 for the hash that the payload is of, 259 for the type of
// what was hashed, and no 3, which would be the type of the payload.
func (m *sign1) fromEnvelope() (UVM, error) {
	const payloadHashAlg, preimageType, sha384 = uint64(258), uint64(259), int64(-43)
	if m.header[payloadHashAlg] != sha384 || m.header[preimageType] != "application/octet-stream" {
		return UVM{}, malformed("COSE header: the payload is not a SHA-384 of application/octet-stream")
	}
	if _, ok := m.header[labelContentType]; ok {
		return UVM{}, malformed("COSE header: a content type in a hash envelope")
	}
	if len(m.payload) != uvmMeasurement {
		return UVM{}, malformed("payload of %d bytes, want a measurement of %d", len(m.payload), uvmMeasurement)
	}
	claims, ok := m.header[labelCWTClaims].(map[any]any)
	if !ok {
		return UVM{}, malformed("CWT claims: not a map")
	}
	// A claim that limits to whom or when the endorsement speaks has to be heeded.
	for _, limit := range []uint64{3, 4, 5} { // aud, exp, nbf: RFC 8392 section 3.1
		if _, ok := claims[limit]; ok {
			return UVM{}, malformed("CWT claims: claim %d is not supported", limit)
		}
	}
	u := UVM{Measurement: m.payload}
	var err error
	if u.Issuer, err = textOf(claims[uint64(1)], "CWT claims: iss"); err != nil {
		return UVM{}, err
	}
	if u.Feed, err = textOf(claims[uint64(2)], "CWT claims: sub"); err != nil {
		return UVM{}, err
	}
	if u.GuestSVN, err = uintOf(claims["svn"], "CWT claims: svn"); err != nil {
		return UVM{}, err
	}
	u.SignedAt, err = timeOf(claims, uint64(6), "CWT claims: iat")
	return u, err
}

// fromJSON reads the form whose payload is JSON.
func (m *sign1) fromJSON() (UVM, error) {
	if m.header[labelContentType] != "application/json" {
		return UVM{}, malformed("COSE header: the content type is not application/json")
	}
	var u UVM
	var err error
	if u.Issuer, err = textOf(m.header["iss"], "COSE header: iss"); err != nil {
		return UVM{}, err
	}
	if u.Feed, err = textOf(m.header["feed"], "COSE header: feed"); err != nil {
		return UVM{}, err
	}
	if u.SignedAt, err = timeOf(m.header, "signingtime", "COSE header: signingtime"); err != nil {
		return UVM{}, err
	}
	if u.GuestSVN, u.Measurement, err = readUVMPayload(m.payload); err != nil {
		return UVM{}, malformed("payload: %v", err)
	}
	return u, nil
}

// readUVMPayload reads the JSON of an endorsement. The SVN is text in Microsoft's
// schema, a number in some endorsements (microsoft/CCF pull request 7316), and
// both in others.
func readUVMPayload(b []byte) (svn uint64, measurement []byte, err error) {
	if err := attest.CheckJSONObject(b); err != nil {
		return 0, nil, err
	}
	m, err := members(b)
	if err != nil {
		return 0, nil, err
	}
	digest, err := text(m, "x-ms-sevsnpvm-launchmeasurement", 2*uvmMeasurement)
	if err != nil {
		return 0, nil, err
	}
	measurement, err = hex.DecodeString(digest)
	if err != nil || len(measurement) != uvmMeasurement || digest != strings.ToLower(digest) {
		return 0, nil, fmt.Errorf("x-ms-sevsnpvm-launchmeasurement is not lower-case hex of %d bytes", uvmMeasurement)
	}
	const name = "x-ms-sevsnpvm-guestsvn"
	word := string(m[name])
	if s, err := text(m, name, 20); err == nil {
		word = s
	}
	if svn, err = decimal(word); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", name, err)
	}
	if again, ok := m[name+"-int"]; ok && string(again) != word {
		return 0, nil, errors.New(name + "-int is not the same number")
	}
	return svn, measurement, nil
}
