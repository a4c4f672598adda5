package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// turinChipID is how many bytes of CHIP_ID Turin uses; the rest is zero.
const turinChipID = 8

// maxCSPID bounds the provider's name in a VLEK.
const maxCSPID = 256

// oidAMD is the arc of AMD's certificate extensions (57230, section "VCEK
// certificate definition").
var oidAMD = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// certificate is what AMD vouches for in a VCEK or VLEK.
type certificate struct {
	SigningKey  SigningKey
	Product     Product
	ProductName string  // as written, for example "Milan-B0"
	TCB         TCB     // the firmware that the key belongs to
	ChipID      []byte  // VCEK: hwID, 64 bytes, 8 on Turin
	CSPID       string  // VLEK: the cloud provider
	tcb         [8]byte // as REPORTED_TCB would be
	NotBefore   time.Time
	NotAfter    time.Time
}

// parseCertificate reads AMD's extensions of a VCEK or VLEK certificate. It
// does not check who signed it.
func parseCertificate(c *x509.Certificate) (*certificate, error) {
	ext := amdExtensions(c)
	out := &certificate{NotBefore: c.NotBefore, NotAfter: c.NotAfter}
	if ext == nil {
		return nil, errors.New("no AMD extensions: not a VCEK or VLEK")
	}
	if c.IsCA {
		return nil, errors.New("is a certificate authority")
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("public key is not P-384")
	}
	if err := out.parseProduct(ext["2"]); err != nil {
		return nil, err
	}
	if err := out.parseTCB(ext); err != nil {
		return nil, err
	}
	if err := out.parseOwner(c, ext); err != nil {
		return nil, err
	}
	return out, nil
}

// amdExtensions returns the values of AMD's extensions by the rest of their
// OID ("2", "3.8"), or nil if there are none. The standard library refuses
// certificates that carry one twice.
func amdExtensions(c *x509.Certificate) map[string][]byte {
	var ext map[string][]byte
	for _, e := range c.Extensions {
		if len(e.Id) <= len(oidAMD) || !e.Id[:len(oidAMD)].Equal(oidAMD) {
			continue
		}
		if ext == nil {
			ext = make(map[string][]byte, 16)
		}
		ext[e.Id[len(oidAMD):].String()] = e.Value
	}
	return ext
}

func (c *certificate) parseProduct(v []byte) error {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(v, &raw)
	if err != nil || len(rest) > 0 || raw.Tag != asn1.TagIA5String || len(raw.Bytes) > 64 {
		return errors.New("product name is not an IA5String")
	}
	c.ProductName = string(raw.Bytes)
	if c.Product = productOfName(c.ProductName); c.Product == "" {
		return fmt.Errorf("product %q: want one of %v", c.ProductName, products)
	}
	return nil
}

// parseTCB puts the patch levels where a report has them.
func (c *certificate) parseTCB(ext map[string][]byte) error {
	// Place in TCB_VERSION → extension; required ones are named in need.
	places, need := [8]string{"3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"}, []string{"3.1", "3.2", "3.3", "3.8"}
	if c.Product == Turin {
		places, need = [8]string{"3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8"}, append(need, "3.9")
	}
	for _, name := range need {
		if _, ok := ext[name]; !ok {
			return fmt.Errorf("extension %s is missing", name)
		}
	}
	for i, name := range places {
		v, ok := ext[name]
		if !ok {
			continue // reserved levels may be absent and then are zero
		}
		var level int
		if rest, err := asn1.Unmarshal(v, &level); err != nil || len(rest) > 0 || level < 0 || level > 255 {
			return fmt.Errorf("extension %s is not a patch level", name)
		}
		c.tcb[i] = byte(level)
	}
	c.TCB = decodeTCB(c.Product, c.tcb)
	return nil
}

// parseOwner tells VCEK from VLEK by what the certificate is bound to: a chip
// or a cloud provider. Having both or neither is an error.
func (c *certificate) parseOwner(cert *x509.Certificate, ext map[string][]byte) error {
	hwID, vcek := ext["4"]
	csp, vlek := ext["5"]
	switch name := cert.Subject.CommonName; {
	case vcek && !vlek && name == "SEV-VCEK":
		return c.parseChipID(hwID)
	case vlek && !vcek && name == "SEV-VLEK":
		c.SigningKey = VLEK
		return c.parseCSP(csp)
	}
	return fmt.Errorf("subject %q with hwID %t and CSP id %t is neither a VCEK nor a VLEK", cert.Subject.CommonName, vcek, vlek)
}

// parseChipID accepts the bare bytes that AMD writes today and the OCTET STRING
// around them that some certificates have.
func (c *certificate) parseChipID(v []byte) error {
	want := 64
	if c.Product == Turin {
		want = turinChipID
	}
	if len(v) == want+2 && v[0] == asn1.TagOctetString && int(v[1]) == want {
		v = v[2:]
	}
	if len(v) != want {
		return fmt.Errorf("hwID is %d bytes, want %d", len(v), want)
	}
	c.ChipID = bytes.Clone(v)
	return nil
}

func (c *certificate) parseCSP(v []byte) error {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(v, &raw)
	if err != nil || len(rest) > 0 || raw.Class != asn1.ClassUniversal || len(raw.Bytes) == 0 || len(raw.Bytes) > maxCSPID {
		return errors.New("CSP id is not a string")
	}
	if raw.Tag != asn1.TagIA5String && raw.Tag != asn1.TagUTF8String && raw.Tag != asn1.TagPrintableString {
		return errors.New("CSP id is not a string")
	}
	for _, b := range raw.Bytes {
		if b < 0x20 || b > 0x7e {
			return errors.New("CSP id is not printable")
		}
	}
	c.CSPID = string(raw.Bytes)
	return nil
}

// matchesChip reports whether the certificate is for the chip of the report.
func (c *certificate) matchesChip(r *Report) bool {
	n := len(c.ChipID)
	return n > 0 && bytes.Equal(c.ChipID, r.ChipID[:n]) && allZero(r.ChipID[n:])
}

// chipHex is the chip's name as claims and KDS addresses spell it.
func (c *certificate) chipHex() string { return hex.EncodeToString(c.ChipID) }
