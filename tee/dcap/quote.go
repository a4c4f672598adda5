package dcap

import (
	"encoding/binary"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// Sizes in bytes.
const (
	EnclaveBodySize = 384 // an SGX enclave's report, also that of the quoting enclave
	TD10BodySize    = 584 // a TD's report of TDX 1.0
	TD15BodySize    = 648 // a TD's report of TDX 1.5

	headerSize     = 48
	bodyHeaderSize = 6 // type and size in front of the body of a version 5 quote
	signatureSize  = 64
	publicKeySize  = 64
	// maxTrailing bounds what may follow a quote: clouds pad to fixed sizes.
	maxTrailing = 16 << 10
)

// BodyType says what a quote is about. The numbers are those of version 5.
type BodyType uint16

// The bodies.
const (
	EnclaveBody BodyType = 1
	TD10Body    BodyType = 2
	TD15Body    BodyType = 3
)

// CertificationData is how a quote names the certificate of its platform (SGX
// DCAP API, "Certification Data" types).
type CertificationData uint16

// The kinds of certification data. The first three name a PCK certificate that
// has to be given apart.
const (
	certPPIDClear   CertificationData = 1
	certPPIDRSA2048 CertificationData = 2
	certPPIDRSA3072 CertificationData = 3
	certChain       CertificationData = 5 // the PCK certificate and its chain, PEM
	certQEReport    CertificationData = 6 // everything about the quoting enclave, and one of the above
)

const (
	keyTypeP256 = 2 // ECDSA-256-with-P-256, the only attestation key

	teeTypeSGX = 0x00
	teeTypeTDX = 0x81
)

// qeVendorIntel is Intel's quoting enclave vendor, 939a7233-f79c-4ca9-940a-0db3957f0607.
var qeVendorIntel = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// Quote is a parsed quote. It shares memory with the bytes that it was parsed
// from. Nothing in it is true until [Verifier.Verify] said so.
type Quote struct {
	Version  uint16 // 3, 4 or 5
	Kind     tee.Kind
	BodyType BodyType
	Body     []byte // 384, 584 or 648 bytes
	Trailing int    // bytes behind the quote, which nobody signed

	signed         []byte
	signature      []byte
	attestationKey []byte // X and Y
	qeReport       []byte
	qeSignature    []byte
	authData       []byte
	certType       CertificationData
	certData       []byte
}

// ParseQuote reads an ECDSA quote of version 3, 4 or 5 (SGX DCAP "Quote
// Generation Library API" A.3 and A.4, TDX DCAP "Quoting Library API" A.3). The
// error is a *tee.VerifyError: CodeParse, or CodeUnsupported for an attestation
// key, a quoting enclave or certification data that this package does not know.
func ParseQuote(b []byte) (*Quote, error) {
	q, failure := parseQuote(b)
	if failure != nil {
		kind := tee.SGX
		if q != nil && q.Kind != "" {
			kind = q.Kind
		}
		return nil, &tee.VerifyError{Kind: kind, Failures: []tee.Failure{*failure}}
	}
	return q, nil
}

// parseQuote returns what it could read beside a failure, so that it can be said
// which TEE the quote claims to be of.
func parseQuote(b []byte) (*Quote, *tee.Failure) {
	if len(b) > tee.MaxEvidence {
		return nil, parseFailure("quote", fmt.Sprintf("at most %d bytes", tee.MaxEvidence), fmt.Sprintf("%d bytes", len(b)))
	}
	r := reader{rest: b}
	header := r.take("header", headerSize)
	if r.failure != nil {
		return nil, r.failure
	}
	q := &Quote{Version: binary.LittleEndian.Uint16(header)}
	if failure := q.readHeader(header); failure != nil {
		return q, failure
	}
	q.readBody(&r)
	q.signed = b[:len(b)-len(r.rest)]
	size := r.u32("signature data size")
	data := reader{rest: r.take("signature data", uint64(size))}
	if r.failure != nil {
		return q, r.failure
	}
	q.Trailing = len(r.rest)
	if q.Trailing > maxTrailing {
		return q, parseFailure("quote", fmt.Sprintf("at most %d bytes behind the signature data", maxTrailing), fmt.Sprintf("%d bytes", q.Trailing))
	}
	q.readSignatureData(&data)
	if data.failure == nil && len(data.rest) > 0 {
		data.fail("signature data", "its parts", fmt.Sprintf("%d bytes more", len(data.rest)))
	}
	return q, data.failure
}

// readHeader reads the TEE and refuses what is not known.
func (q *Quote) readHeader(h []byte) *tee.Failure {
	teeType := binary.LittleEndian.Uint32(h[4:])
	switch {
	case teeType == teeTypeSGX:
		q.Kind = tee.SGX
	case teeType == teeTypeTDX && q.Version != 3:
		q.Kind = tee.TDX
	}
	if q.Version < 3 || q.Version > 5 {
		return parseFailure("quote version", "3, 4 or 5", fmt.Sprint(q.Version))
	}
	if q.Kind == "" {
		return parseFailure("tee type", "0 (SGX) or 0x81 (TDX, from version 4 on)", fmt.Sprintf("%#x", teeType))
	}
	if t := binary.LittleEndian.Uint16(h[2:]); t != keyTypeP256 {
		return &tee.Failure{Code: tee.CodeUnsupported, Claim: "attestation key type", Want: "2 (ECDSA P-256)", Got: fmt.Sprint(t)}
	}
	if vendor := [16]byte(h[12:28]); vendor != qeVendorIntel {
		return &tee.Failure{Code: tee.CodeUnsupported, Claim: "quoting enclave vendor", Want: fmt.Sprintf("%x (Intel)", qeVendorIntel), Got: fmt.Sprintf("%x", vendor)}
	}
	return nil
}

// bodySizes are the sizes of the bodies.
func (t BodyType) size() uint64 {
	switch t {
	case EnclaveBody:
		return EnclaveBodySize
	case TD10Body:
		return TD10BodySize
	case TD15Body:
		return TD15BodySize
	default:
		return 0
	}
}

// readBody reads the body, which version 5 puts a type and a size in front of.
func (q *Quote) readBody(r *reader) {
	q.BodyType = EnclaveBody
	if q.Kind == tee.TDX {
		q.BodyType = TD10Body
	}
	if q.Version == 5 {
		q.BodyType = BodyType(r.u16("body type"))
		size := r.u32("body size")
		if isTD := q.BodyType == TD10Body || q.BodyType == TD15Body; r.failure == nil && (q.BodyType.size() == 0 || isTD != (q.Kind == tee.TDX)) {
			r.fail("body type", "a body of "+string(q.Kind), fmt.Sprint(uint16(q.BodyType)))
		}
		if r.failure == nil && uint64(size) != q.BodyType.size() {
			r.fail("body size", fmt.Sprint(q.BodyType.size()), fmt.Sprint(size))
		}
	}
	q.Body = r.take("body", q.BodyType.size())
}

// readSignatureData reads the signatures and what vouches for them.
func (q *Quote) readSignatureData(r *reader) {
	q.signature = r.take("quote signature", signatureSize)
	q.attestationKey = r.take("attestation key", publicKeySize)
	if q.Version >= 4 {
		if t := CertificationData(r.u16("certification data type")); r.failure == nil && t != certQEReport {
			r.fail("certification data type", "6 (quoting enclave report)", fmt.Sprint(uint16(t)))
		}
		size := r.u32("certification data size")
		if r.failure == nil && uint64(size) != uint64(len(r.rest)) {
			r.fail("certification data size", fmt.Sprint(len(r.rest)), fmt.Sprint(size))
		}
	}
	q.qeReport = r.take("quoting enclave report", EnclaveBodySize)
	q.qeSignature = r.take("quoting enclave report signature", signatureSize)
	q.authData = r.take("authentication data", uint64(r.u16("authentication data size")))
	q.certType = CertificationData(r.u16("certification data type"))
	q.certData = r.take("certification data", uint64(r.u32("certification data size")))
	if r.failure != nil {
		return
	}
	switch q.certType {
	case certChain, certPPIDClear, certPPIDRSA2048, certPPIDRSA3072:
	case certQEReport:
		r.fail("certification data type", "1, 2, 3 or 5", "6 within 6")
	default:
		r.failure = &tee.Failure{Code: tee.CodeUnsupported, Claim: "certification data type", Want: "1, 2, 3 or 5", Got: fmt.Sprint(uint16(q.certType))}
	}
}

// reader takes bytes off the front; after a failure it gives zeroes.
type reader struct {
	rest    []byte
	failure *tee.Failure
}

func (r *reader) fail(claim, want, got string) {
	if r.failure == nil {
		r.failure = parseFailure(claim, want, got)
	}
}

// take returns the next n bytes, or nil after a failure.
func (r *reader) take(what string, n uint64) []byte {
	if r.failure == nil && n > uint64(len(r.rest)) {
		r.fail(what, fmt.Sprintf("%d bytes", n), fmt.Sprintf("%d bytes", len(r.rest)))
	}
	if r.failure != nil {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u16(what string) uint16 {
	b := r.take(what, 2)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint16(b)
}

func (r *reader) u32(what string) uint32 {
	b := r.take(what, 4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func parseFailure(claim, want, got string) *tee.Failure {
	return &tee.Failure{Code: tee.CodeParse, Claim: claim, Want: want, Got: got, Hint: "pass the quote exactly as the quoting enclave gave it"}
}
