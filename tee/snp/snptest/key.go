package snptest

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee/snp"
)

// KeyOptions say what a VCEK or VLEK is for. The zero value is a good one.
type KeyOptions struct {
	TCB         snp.TCB    // zero: a plausible one
	ChipID      []byte     // VCEK: 64 bytes, 8 on Turin; nil: a new one
	CSPID       string     // VLEK: "" is "cloister-test"
	ProductName string     // "" is the manufacturer's product
	Issuer      *Authority // nil: the ASK or ASVK
	Validity    Validity
	// Extensions replaces AMD's extensions by the rest of their OID ("3.8"); nil
	// leaves one out.
	Extensions map[string][]byte
	// CA makes the certificate claim to be a certificate authority.
	CA bool
}

// Key is a VCEK or VLEK with the private key that the processor would keep.
type Key struct {
	Kind        snp.SigningKey
	Product     snp.Product
	TCB         snp.TCB
	ChipID      []byte // VCEK
	Certificate []byte // DER

	private *ecdsa.PrivateKey
}

// VCEK returns a new chip's key.
func (m *Manufacturer) VCEK(tb testing.TB, o KeyOptions) *Key {
	tb.Helper()
	if o.ChipID == nil {
		o.ChipID = make([]byte, 64)
		if m.Product == snp.Turin {
			o.ChipID = o.ChipID[:8]
		}
		rand.Read(o.ChipID)
	}
	o.Issuer = cmp.Or(o.Issuer, m.ASK)
	return m.newKey(tb, snp.VCEK, "SEV-VCEK", o, map[string][]byte{"4": o.ChipID})
}

// VLEK returns a provider's key.
func (m *Manufacturer) VLEK(tb testing.TB, o KeyOptions) *Key {
	tb.Helper()
	o.Issuer = cmp.Or(o.Issuer, m.ASVK)
	o.ChipID = nil
	return m.newKey(tb, snp.VLEK, "SEV-VLEK", o, map[string][]byte{"5": ia5(tb, cmp.Or(o.CSPID, "cloister-test"))})
}

func (m *Manufacturer) newKey(tb testing.TB, kind snp.SigningKey, name string, o KeyOptions, owner map[string][]byte) *Key {
	tb.Helper()
	if o.TCB == (snp.TCB{}) {
		o.TCB = snp.TCB{Bootloader: 4, TEE: 1, SNP: 24, Microcode: 219}
		if m.Product == snp.Turin {
			o.TCB.FMC = 2
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	k := &Key{Kind: kind, Product: m.Product, TCB: o.TCB, ChipID: bytes.Clone(o.ChipID), private: private}
	ext := m.extensions(tb, o)
	maps.Copy(ext, owner)
	maps.Copy(ext, o.Extensions)
	v := o.Validity.orDefault()
	template := &x509.Certificate{
		SerialNumber: new(big.Int), // AMD's have no other
		Subject:      pkix.Name{CommonName: name, Organization: []string{"cloister test"}},
		NotBefore:    v.From, NotAfter: v.To, SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions: pkixExtensions(ext), IsCA: o.CA, BasicConstraintsValid: o.CA,
	}
	k.Certificate, err = x509.CreateCertificate(rand.Reader, template, o.Issuer.Certificate, &private.PublicKey, o.Issuer.key)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// extensions are AMD's (57230) without the owner, by the rest of their OID.
func (m *Manufacturer) extensions(tb testing.TB, o KeyOptions) map[string][]byte {
	tb.Helper()
	level := func(n uint8) []byte { return der(tb, int(n)) }
	t := o.TCB
	ext := map[string][]byte{
		"1": level(0), "2": ia5(tb, cmp.Or(o.ProductName, string(m.Product))),
		"3.1": level(t.Bootloader), "3.2": level(t.TEE), "3.3": level(t.SNP), "3.8": level(t.Microcode),
		"3.5": level(0), "3.6": level(0), "3.7": level(0),
	}
	if m.Product == snp.Turin {
		ext["3.9"] = level(t.FMC)
	} else {
		ext["3.4"] = level(0)
	}
	return ext
}

func pkixExtensions(ext map[string][]byte) []pkix.Extension {
	var out []pkix.Extension
	for _, name := range slices.Sorted(maps.Keys(ext)) {
		if ext[name] == nil {
			continue
		}
		id := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
		for part := range bytes.SplitSeq([]byte(name), []byte(".")) {
			n := 0
			for _, c := range part {
				n = n*10 + int(c-'0')
			}
			id = append(id, n)
		}
		out = append(out, pkix.Extension{Id: id, Value: ext[name]})
	}
	return out
}

func ia5(tb testing.TB, s string) []byte {
	tb.Helper()
	return der(tb, asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(s)})
}

func der(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
