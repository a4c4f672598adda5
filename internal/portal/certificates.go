package portal

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/veraison/go-cose"
)

// certificate is what a person can compare of a certificate. It is as untrusted as
// the evidence that it came with.
type certificate struct {
	Subject     string
	Issuer      string
	Self        bool // issued by itself
	From, Until time.Time
	Current     bool
	Key         string
	Signature   string
	Serial      string
	Fingerprint string // SHA-256 of the DER
	// Broken says why it could not be read.
	Broken string
}

// chainOf returns the certificates that came with evidence: beside it, or inside it
// where its format is one of ours or has them as PEM.
func chainOf(ev tee.Evidence) [][]byte {
	list := append([][]byte{}, ev.Certificates...)
	list = append(list, insideCOSE(ev.Data)...)
	// Intel's quotes carry their chain as PEM behind the signature.
	for rest := ev.Data; len(list) < attest.MaxCertificates; {
		at := bytes.Index(rest, []byte("-----BEGIN CERTIFICATE-----"))
		if at < 0 {
			break
		}
		var block *pem.Block
		if block, rest = pem.Decode(rest[at:]); block == nil {
			break
		}
		list = append(list, block.Bytes)
	}
	var out [][]byte // some formats repeat inside what is beside them
	for _, der := range list[:min(len(list), attest.MaxCertificates)] {
		if !slices.ContainsFunc(out, func(o []byte) bool { return bytes.Equal(o, der) }) {
			out = append(out, der)
		}
	}
	return out
}

// insideCOSE returns the x5chain (RFC 9360) of a signed message; nil if the bytes are
// none.
func insideCOSE(b []byte) [][]byte {
	var m cose.Sign1Message
	if len(b) > tee.MaxEvidence || m.UnmarshalCBOR(b) != nil {
		return nil
	}
	switch chain := m.Headers.Protected[cose.HeaderLabelX5Chain].(type) {
	case []byte:
		return [][]byte{chain}
	case []any:
		var list [][]byte
		for _, c := range chain {
			if der, ok := c.([]byte); ok {
				list = append(list, der)
			}
		}
		return list
	default:
		return nil
	}
}

func certificates(list [][]byte, now time.Time) []certificate {
	out := make([]certificate, 0, len(list))
	for _, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			out = append(out, certificate{Broken: err.Error(), Fingerprint: fingerprint(der)})
			continue
		}
		out = append(out, describe(c, now))
	}
	return out
}

func rootsOf(roots tee.Roots, now time.Time) []certificate {
	out := make([]certificate, 0, len(roots))
	for _, c := range roots {
		if c != nil {
			out = append(out, describe(c, now))
		}
	}
	return out
}

func describe(c *x509.Certificate, now time.Time) certificate {
	return certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Self: bytes.Equal(c.RawSubject, c.RawIssuer),
		From: c.NotBefore, Until: c.NotAfter, Current: !now.Before(c.NotBefore) && !now.After(c.NotAfter),
		Key: keyName(c), Signature: c.SignatureAlgorithm.String(), Serial: c.SerialNumber.Text(16), Fingerprint: fingerprint(c.Raw),
	}
}

func fingerprint(der []byte) string {
	d := sha256.Sum256(der)
	return hex.EncodeToString(d[:])
}

func keyName(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	default:
		return c.PublicKeyAlgorithm.String()
	}
}
