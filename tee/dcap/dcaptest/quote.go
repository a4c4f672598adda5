package dcaptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
)

// What the quoting enclave of this package is.
var (
	QEMRSigner   = bytes.Repeat([]byte{0x8c}, 32)
	QEAttributes = append([]byte{0x11}, make([]byte, 15)...)
)

// The quoting enclave's product, and the newest security version of the
// collateral.
const (
	QEProdID = 1
	QESVN    = 8
)

// QuoteOptions describe a quote. The zero value is one of an SGX enclave, of
// version 3.
type QuoteOptions struct {
	Version uint16
	Type    dcap.BodyType // zero: an enclave's
	Body    []byte        // nil: [EnclaveBody] or [TDBody]
	// QuotingEnclave changes the quoting enclave's report before it is signed.
	QuotingEnclave func(report []byte)
	// SignWith signs the quote with another key than the quoting enclave's.
	SignWith *ecdsa.PrivateKey
	// WithoutChain leaves the certificates out: certification data of type 1.
	WithoutChain bool
	// Certificates are PEM blocks in place of the platform's chain.
	Certificates []byte
	// Trailing is put behind the quote.
	Trailing []byte
}

// EnclaveBody is the report of an enclave.
func EnclaveBody() []byte {
	b := make([]byte, dcap.EnclaveBodySize)
	b[48] = 0x05 // attributes: INIT, MODE64BIT
	copy(b[64:], bytes.Repeat([]byte{0xE1}, 32))
	copy(b[128:], bytes.Repeat([]byte{0x51}, 32))
	binary.LittleEndian.PutUint16(b[256:], 7) // product
	binary.LittleEndian.PutUint16(b[258:], 3) // security version
	copy(b[320:], bytes.Repeat([]byte{0xD0}, 64))
	return b
}

// TDBody is the report of a TD on a current TDX module, of TDX 1.0 or 1.5.
func TDBody(t dcap.BodyType) []byte {
	b := make([]byte, dcap.TD10BodySize)
	copy(b, CurrentTDX[:])
	copy(b[64:], ModuleMRSigner) // MRSIGNERSEAM
	b[123] = 0x10                // TDATTRIBUTES: SEPT_VE_DISABLE
	copy(b[136:], bytes.Repeat([]byte{0x7D}, 48))
	copy(b[328:], bytes.Repeat([]byte{0xA0}, 48))
	copy(b[520:], bytes.Repeat([]byte{0xD0}, 64))
	if t == dcap.TD15Body {
		b = append(b, CurrentTDX[:]...)
		b = append(b, make([]byte, 48)...)
	}
	return b
}

// ModuleMRSigner is the signer of the TDX module; Intel's own is zero as well.
var ModuleMRSigner = make([]byte, 48)

// Evidence is a quote as evidence.
func (p *Platform) Evidence(tb testing.TB, o QuoteOptions) tee.Evidence {
	tb.Helper()
	ev := tee.Evidence{Kind: tee.SGX, Data: p.Quote(tb, o)}
	if o.Type == dcap.TD10Body || o.Type == dcap.TD15Body {
		ev.Kind = tee.TDX
	}
	return ev
}

// Quote makes and signs a quote.
func (p *Platform) Quote(tb testing.TB, o QuoteOptions) []byte {
	tb.Helper()
	if o.Type == 0 {
		o.Type = dcap.EnclaveBody
	}
	isTD := o.Type != dcap.EnclaveBody
	if o.Version == 0 {
		o.Version = 3
		if isTD {
			o.Version = 4
		}
	}
	if o.Body == nil {
		o.Body = EnclaveBody()
		if isTD {
			o.Body = TDBody(o.Type)
		}
	}
	key := NewKey(tb)
	signed := header(o.Version, isTD)
	if o.Version == 5 {
		signed = binary.LittleEndian.AppendUint16(signed, uint16(o.Type))
		signed = binary.LittleEndian.AppendUint32(signed, uint32(len(o.Body)))
	}
	signed = append(signed, o.Body...)
	with := key
	if o.SignWith != nil {
		with = o.SignWith
	}
	sig := append(sign(tb, with, signed), rawKey(tb, key)...)
	rest := p.quotingEnclave(tb, key, o)
	if o.Version >= 4 {
		sig = binary.LittleEndian.AppendUint16(sig, 6)
		sig = binary.LittleEndian.AppendUint32(sig, uint32(len(rest)))
	}
	sig = append(sig, rest...)
	out := binary.LittleEndian.AppendUint32(bytes.Clone(signed), uint32(len(sig)))
	return append(append(out, sig...), o.Trailing...)
}

func header(version uint16, td bool) []byte {
	h := make([]byte, 48)
	binary.LittleEndian.PutUint16(h, version)
	binary.LittleEndian.PutUint16(h[2:], 2)
	if td {
		binary.LittleEndian.PutUint32(h[4:], 0x81)
	}
	copy(h[12:], []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07})
	return h
}

// quotingEnclave is the report that vouches for the attestation key, its
// signature by the PCK, and the certificates.
func (p *Platform) quotingEnclave(tb testing.TB, key *ecdsa.PrivateKey, o QuoteOptions) []byte {
	tb.Helper()
	auth := []byte("authentication data")
	report := make([]byte, dcap.EnclaveBodySize)
	copy(report[48:], QEAttributes)
	copy(report[128:], QEMRSigner)
	binary.LittleEndian.PutUint16(report[256:], QEProdID)
	binary.LittleEndian.PutUint16(report[258:], QESVN)
	sum := sha256.Sum256(append(rawKey(tb, key), auth...))
	copy(report[320:], sum[:])
	if o.QuotingEnclave != nil {
		o.QuotingEnclave(report)
	}
	out := append(bytes.Clone(report), sign(tb, p.Key, report)...)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(auth)))
	out = append(out, auth...)
	kind, data := uint16(5), p.chainPEM()
	switch {
	case o.WithoutChain:
		kind, data = 1, make([]byte, 404) // encrypted PPID, CPUSVN, PCESVN, PCEID
	case o.Certificates != nil:
		data = o.Certificates
	}
	out = binary.LittleEndian.AppendUint16(out, kind)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	return append(out, data...)
}

func (p *Platform) chainPEM() []byte {
	var out []byte
	for _, c := range p.Chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return append(out, 0)
}

// sign returns r and s, 32 bytes each.
func sign(tb testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	tb.Helper()
	sum := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		tb.Fatal(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

// rawKey returns X and Y, 32 bytes each.
func rawKey(tb testing.TB, key *ecdsa.PrivateKey) []byte {
	tb.Helper()
	b, err := key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return b[1:]
}
