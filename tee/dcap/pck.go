package dcap

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// PCK is what Intel certifies about a platform in its PCK certificate ("Intel
// SGX PCK Certificate and Certificate Revocation List Profile", section 1.3.5).
type PCK struct {
	PPID       [16]byte // the processor's own, or the platform's
	CPUSVN     [16]byte
	Components [16]uint8 // security version of each component of the TCB
	PCESVN     uint16
	PCEID      [2]byte
	FMSPC      [6]byte // family, model, stepping, platform and custom SKU
	SGXType    int     // 0 standard, 1 scalable, 2 scalable with integrity
	// What only platforms with more than one package have; nil elsewhere.
	PlatformInstanceID               []byte
	DynamicPlatform, CachedKeys, SMT *bool
}

// The SGX extension and its members.
var (
	oidSGX         = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	errNoExtension = errors.New("no SGX extension")
)

const (
	pckPPID = iota + 1
	pckTCB
	pckPCEID
	pckFMSPC
	pckSGXType
	pckPlatformInstance
	pckConfiguration
)

const (
	tcbComponents = 16
	tcbPCESVN     = 17
	tcbCPUSVN     = 18
)

// member is an element of the SGX extension: SEQUENCE { OID, value }.
type member struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// sgxExtension returns the SGX extension of a certificate, nil without one.
func sgxExtension(c *x509.Certificate) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSGX) {
			return e.Value
		}
	}
	return nil
}

// parsePCK reads the SGX extension. Every required member must be there, once.
func parsePCK(c *x509.Certificate) (PCK, error) {
	der := sgxExtension(c)
	if der == nil {
		return PCK{}, errNoExtension
	}
	members, err := readMembers(der, oidSGX)
	if err != nil {
		return PCK{}, err
	}
	var p PCK
	for _, n := range []int{pckPPID, pckTCB, pckPCEID, pckFMSPC, pckSGXType} {
		if _, ok := members[n]; !ok {
			return PCK{}, fmt.Errorf("SGX extension: member %d is missing", n)
		}
	}
	for n, v := range members {
		if err := p.read(n, v); err != nil {
			return PCK{}, fmt.Errorf("SGX extension: member %d: %w", n, err)
		}
	}
	return p, nil
}

func (p *PCK) read(n int, v asn1.RawValue) error {
	switch n {
	case pckPPID:
		return octets(v, p.PPID[:])
	case pckTCB:
		return p.readTCB(v)
	case pckPCEID:
		return octets(v, p.PCEID[:])
	case pckFMSPC:
		return octets(v, p.FMSPC[:])
	case pckSGXType:
		if v.Tag != asn1.TagEnum || len(v.Bytes) != 1 {
			return errors.New("not a small ENUMERATED")
		}
		p.SGXType = int(v.Bytes[0])
		return nil
	case pckPlatformInstance:
		p.PlatformInstanceID = make([]byte, 16)
		return octets(v, p.PlatformInstanceID)
	case pckConfiguration:
		return p.readConfiguration(v)
	default:
		return nil // later versions of the profile may add members
	}
}

func (p *PCK) readTCB(v asn1.RawValue) error {
	members, err := readMembers(v.FullBytes, append(slices.Clone(oidSGX), pckTCB))
	if err != nil {
		return err
	}
	if len(members) != tcbCPUSVN {
		return fmt.Errorf("%d members, want %d", len(members), tcbCPUSVN)
	}
	for n, v := range members {
		switch {
		case n >= 1 && n <= tcbComponents:
			svn, err := number(v, 0xFF)
			if err != nil {
				return fmt.Errorf("component %d: %w", n, err)
			}
			p.Components[n-1] = uint8(svn)
		case n == tcbPCESVN:
			svn, err := number(v, 0xFFFF)
			if err != nil {
				return fmt.Errorf("PCESVN: %w", err)
			}
			p.PCESVN = uint16(svn)
		case n == tcbCPUSVN:
			if err := octets(v, p.CPUSVN[:]); err != nil {
				return fmt.Errorf("CPUSVN: %w", err)
			}
		default:
			return fmt.Errorf("member %d is not known", n)
		}
	}
	return nil
}

func (p *PCK) readConfiguration(v asn1.RawValue) error {
	members, err := readMembers(v.FullBytes, append(slices.Clone(oidSGX), pckConfiguration))
	if err != nil {
		return err
	}
	for n, into := range map[int]**bool{1: &p.DynamicPlatform, 2: &p.CachedKeys, 3: &p.SMT} {
		v, ok := members[n]
		if !ok {
			continue
		}
		if v.Tag != asn1.TagBoolean || len(v.Bytes) != 1 {
			return fmt.Errorf("member %d: not a BOOLEAN", n)
		}
		set := v.Bytes[0] != 0
		*into = &set
	}
	return nil
}

// readMembers reads a SEQUENCE of members whose identifiers are prefix and one
// number each.
func readMembers(der []byte, prefix asn1.ObjectIdentifier) (map[int]asn1.RawValue, error) {
	var list []member
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return nil, errors.New("not a sequence of members")
	}
	out := make(map[int]asn1.RawValue, len(list))
	for _, m := range list {
		if len(m.ID) != len(prefix)+1 || !m.ID[:len(prefix)].Equal(prefix) {
			return nil, fmt.Errorf("member %v is not of %v", m.ID, prefix)
		}
		n := m.ID[len(prefix)]
		if _, twice := out[n]; twice {
			return nil, fmt.Errorf("member %d twice", n)
		}
		out[n] = m.Value
	}
	return out, nil
}

func octets(v asn1.RawValue, into []byte) error {
	if v.Tag != asn1.TagOctetString || len(v.Bytes) != len(into) {
		return fmt.Errorf("not an OCTET STRING of %d bytes", len(into))
	}
	copy(into, v.Bytes)
	return nil
}

func number(v asn1.RawValue, most int) (int, error) {
	var n int
	if rest, err := asn1.Unmarshal(v.FullBytes, &n); err != nil || len(rest) > 0 || n < 0 || n > most {
		return 0, fmt.Errorf("not an INTEGER of 0 to %d", most)
	}
	return n, nil
}
