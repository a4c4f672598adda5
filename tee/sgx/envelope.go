package sgx

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// openEnclaveHeader is what Open Enclave puts in front of a quote: version 1,
// type 2 (a remote report of SGX), the size of the quote (oe_report_header_t).
const openEnclaveHeader = 16

// unwrap takes Open Enclave's header off, where there is one.
func unwrap(data []byte) []byte {
	if len(data) < openEnclaveHeader || binary.LittleEndian.Uint32(data) != 1 || binary.LittleEndian.Uint32(data[4:]) != 2 {
		return data
	}
	size := binary.LittleEndian.Uint64(data[8:])
	if size > uint64(len(data)-openEnclaveHeader) {
		return data // the parser says what is wrong with it
	}
	return data[openEnclaveHeader:][:size]
}

// quoteOIDs are the certificate extensions in which RA-TLS carries a quote.
var quoteOIDs = []asn1.ObjectIdentifier{
	{1, 2, 840, 113556, 10, 1, 1}, // Open Enclave, report
	{1, 2, 840, 113741, 1337, 6},  // Gramine and Intel's RA-TLS
}

// isCertificate tells a certificate, a SEQUENCE with a two-byte length, from a
// quote.
func isCertificate(data []byte) bool { return len(data) > 4 && data[0] == 0x30 && data[1] == 0x82 }

// quoteExtension returns the certificate's quote, nil if it has none.
func quoteExtension(der []byte) []byte {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return quoteOf(c)
}

func quoteOf(c *x509.Certificate) []byte {
	for _, e := range c.Extensions {
		if slices.ContainsFunc(quoteOIDs, e.Id.Equal) {
			return e.Value
		}
	}
	return nil
}

// binding is the key that report data must vouch for; nil vouches for nothing.
type binding struct{ spki []byte }

// open takes the quote out of what the evidence wraps it in.
func open(data []byte) (quote []byte, b *binding, failure *tee.Failure) {
	if !isCertificate(data) {
		quote = unwrap(data)
		return quote, nil, nil
	}
	c, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, nil, &tee.Failure{Code: tee.CodeParse, Claim: "certificate", Want: "DER of an RA-TLS certificate", Got: fmt.Sprintf("%.200q", err.Error())}
	}
	value := quoteOf(c)
	if value == nil {
		return nil, nil, &tee.Failure{Code: tee.CodeParse, Claim: "certificate", Want: "an extension with a quote", Got: "none", Hint: "this certificate is not one of RA-TLS"}
	}
	var octets []byte
	if rest, err := asn1.Unmarshal(value, &octets); err == nil && len(rest) == 0 {
		value = octets // some writers put the quote into an OCTET STRING of its own
	}
	quote = unwrap(value)
	return quote, &binding{spki: c.RawSubjectPublicKeyInfo}, nil
}

// Quote takes the quote out of what evidence wraps it in: a header of Open
// Enclave, or a certificate of RA-TLS. Nothing of it is verified; it is data
// itself where there is nothing to take off, and nil where there is no quote.
func Quote(data []byte) []byte {
	quote, _, _ := open(data)
	return quote
}

// check wants the first half of the report data to be the SHA-256 of the
// certificate's key, in one of the forms in which frameworks hash it: the DER
// (Gramine), or the PEM with or without the NUL behind it (Open Enclave).
func (b *binding) check(reportData []byte) *tee.Failure {
	if b == nil {
		return nil
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b.spki})
	for _, form := range [][]byte{b.spki, text, append(text, 0)} {
		if sum := sha256.Sum256(form); string(sum[:]) == string(reportData[:sha256.Size]) {
			return nil
		}
	}
	return &tee.Failure{Code: tee.CodeBinding, Claim: "certificate key", Want: "the key that the quote vouches for", Got: "another", Hint: "the certificate was made by somebody else than the enclave"}
}
