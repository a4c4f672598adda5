package dcaptest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
)

// oidSGX is the identifier of the SGX extension.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// PlatformOptions describe a platform. The zero value is one whose firmware is
// current by the collateral that this package makes.
type PlatformOptions struct {
	PPID       [16]byte
	Components [16]uint8 // zero: those of the newest level
	PCESVN     uint16    // zero: that of the newest level
	FMSPC      [6]byte   // zero: [FMSPC]
	Issuer     *Authority
	Validity   Validity
	CA         bool // a PCK certificate that may issue others, which none may
	// Extension changes the members of the SGX extension, by number; a nil value
	// takes one out.
	Extension map[int]any
}

// FMSPC is the family of platforms that the collateral is for.
var FMSPC = [6]byte{0x00, 0xC1, 0x01, 0x57, 0xE4, 0x00}

// The newest level of the collateral.
var (
	CurrentComponents = [16]uint8{7, 7, 2, 2, 4, 1, 0, 3}
	CurrentTDX        = [16]uint8{5, 0, 6}
)

// CurrentPCESVN is the PCESVN of the newest level.
const CurrentPCESVN = 13

// Platform is a machine with a PCK certificate.
type Platform struct {
	*Authority // the PCK
	intel      *Intel
	Chain      []*x509.Certificate // PCK, authority, root
}

// Platform makes a platform that i certified.
func (i *Intel) Platform(tb testing.TB, o PlatformOptions) *Platform {
	tb.Helper()
	if o.Components == ([16]uint8{}) {
		o.Components = CurrentComponents
	}
	if o.PCESVN == 0 {
		o.PCESVN = CurrentPCESVN
	}
	if o.FMSPC == ([6]byte{}) {
		o.FMSPC = FMSPC
	}
	if o.Issuer == nil {
		o.Issuer = i.PlatformCA
	}
	pck := NewAuthority(tb, CertificateOptions{
		Name: "Test SGX PCK Certificate", Issuer: o.Issuer, Validity: o.Validity, CA: o.CA, Extensions: []pkix.Extension{{Id: oidSGX, Value: sgxExtension(tb, o)}},
	})
	return &Platform{Authority: pck, intel: i, Chain: []*x509.Certificate{pck.Certificate, o.Issuer.Certificate, i.Root.Certificate}}
}

// sgxExtension encodes the SGX extension (PCK profile, section 1.3.5).
func sgxExtension(tb testing.TB, o PlatformOptions) []byte {
	tb.Helper()
	tcb := map[int]any{17: int(o.PCESVN), 18: o.Components[:]}
	for n, svn := range o.Components {
		tcb[n+1] = int(svn)
	}
	members := map[int]any{1: o.PPID[:], 2: sequence(tb, append(slices.Clone(oidSGX), 2), tcb), 3: []byte{0, 0}, 4: o.FMSPC[:], 5: asn1.Enumerated(1)}
	for n, v := range o.Extension {
		if members[n] = v; v == nil {
			delete(members, n)
		}
	}
	return sequence(tb, oidSGX, members).FullBytes
}

// sequence encodes members by number under an identifier.
func sequence(tb testing.TB, prefix asn1.ObjectIdentifier, members map[int]any) asn1.RawValue {
	tb.Helper()
	var body []byte
	for n := 1; n <= 32; n++ {
		v, ok := members[n]
		if !ok {
			continue
		}
		id, err := asn1.Marshal(append(slices.Clone(prefix), n))
		if err != nil {
			tb.Fatal(err)
		}
		value, err := asn1.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		member, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(id, value...)})
		if err != nil {
			tb.Fatal(err)
		}
		body = append(body, member...)
	}
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body})
	if err != nil {
		tb.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}
