package software

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// Profile is the EAT profile (RFC 9711 section 6) of software TEE evidence. The
// number changes with every change of the claims.
const Profile = "tag:cloister-cc.github.io,2026:software-tee#1"

// Values of the dbgstat claim (RFC 9711 section 4.2.9) that this profile uses.
const (
	debugEnabled           = 0
	debugDisabledSinceBoot = 2 // fixed at launch, as here
)

// ueidRandom is the type byte of a UEID that is as good as random, such as a
// digest of a key (RFC 9711 section 4.2.1.1, type RAND).
const ueidRandom = 0x01

// eatClaims are the claims of the evidence. All of them are always present.
type eatClaims struct {
	Nonce         []byte   `cbor:"10,keyasint"`  // eat_nonce: the report data
	UEID          []byte   `cbor:"256,keyasint"` // type RAND and the platform id
	DebugStatus   uint8    `cbor:"263,keyasint"` // dbgstat
	Profile       string   `cbor:"265,keyasint"` // eat_profile
	Simulated     bool     `cbor:"simulated"`    // always true
	Measurement   []byte   `cbor:"measurement"`
	LaunchDigest  []byte   `cbor:"launch_digest"`
	RuntimeDigest []byte   `cbor:"runtime_digest"`
	Signer        []byte   `cbor:"signer"`
	Product       uint32   `cbor:"product"`
	SVN           uint32   `cbor:"svn"`
	InstanceID    string   `cbor:"instance_id"`
	Role          string   `cbor:"role"`
	Walls         []string `cbor:"walls"`
	MissingWalls  []string `cbor:"missing_walls"`
}

// evidenceHeader is the protected header: nothing but the algorithm and one
// certificate.
type evidenceHeader struct {
	Alg     int64  `cbor:"1,keyasint"`
	X5Chain []byte `cbor:"33,keyasint"` // RFC 9360 section 2: the platform certificate, DER
}

// sign1 is the content of COSE_Sign1 (RFC 9052 section 4.2).
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

const (
	tagSign1      = 0xd2 // CBOR tag 18
	emptyMap      = 0xa0
	sizeSignature = 64 // ES256: r and s, 32 bytes each
)

// claimsOf returns the claims of a launch, without its walls.
func claimsOf(doc launch.Document, info Info, platformID [32]byte, reportData [64]byte) eatClaims {
	debug := uint8(debugDisabledSinceBoot)
	if doc.Debug {
		debug = debugEnabled
	}
	return eatClaims{
		Nonce:         reportData[:],
		UEID:          append([]byte{ueidRandom}, platformID[:]...),
		DebugStatus:   debug,
		Profile:       Profile,
		Simulated:     true,
		Measurement:   info.Measurement,
		LaunchDigest:  info.LaunchDigest[:],
		RuntimeDigest: info.RuntimeDigest[:],
		Signer:        doc.Signer,
		Product:       doc.Product,
		SVN:           doc.SVN,
		InstanceID:    info.InstanceID,
		Role:          string(doc.Role),
	}
}

// signEvidence signs claims with the platform's attestation key.
func signEvidence(c eatClaims, key *ecdsa.PrivateKey, certificate []byte) ([]byte, error) {
	payload, err := encode(c)
	if err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		return nil, fmt.Errorf("sign evidence: %w", err)
	}
	headers := cose.Headers{Protected: cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: cose.AlgorithmES256,
		cose.HeaderLabelX5Chain:   certificate,
	}}
	b, err := cose.Sign1(rand.Reader, signer, headers, payload, nil)
	if err != nil {
		return nil, fmt.Errorf("sign evidence: %w", err)
	}
	if len(b) > tee.MaxEvidence {
		return nil, fmt.Errorf("sign evidence: %d bytes, at most %d", len(b), tee.MaxEvidence)
	}
	return b, nil
}

// parsed is evidence of the right form. Nothing in it is proven.
type parsed struct {
	claims      eatClaims
	certificate []byte
	message     cose.Sign1Message
}

// detect reports whether data looks like evidence of this package.
func detect(data []byte) bool {
	return len(data) > 2 && data[0] == tagSign1 && data[1] == 0x84 && bytes.Contains(data, []byte(Profile))
}

// parseEvidence reads evidence: one COSE_Sign1 in deterministic encoding, with
// exactly the headers and claims of this profile. It allocates in proportion to
// its input, which is bounded by tee.MaxEvidence.
func parseEvidence(data []byte) (parsed, *tee.Failure) {
	var p parsed
	malformed := func(claim string, err error) (parsed, *tee.Failure) {
		return parsed{}, &tee.Failure{Code: tee.CodeParse, Claim: claim, Got: printable(err.Error())}
	}
	outer, err := parseSign1(data)
	if err != nil {
		return malformed("evidence", err)
	}
	header, err := decodeLoose[evidenceHeader](outer.Protected)
	if err != nil {
		return malformed("protected header", err)
	}
	if header.Alg != int64(cose.AlgorithmES256) {
		return parsed{}, &tee.Failure{Code: tee.CodeUnsupported, Claim: "alg", Want: "ES256 (-7)", Got: fmt.Sprint(header.Alg)}
	}
	if err := canonical(outer.Protected, header); err != nil {
		return malformed("protected header", err)
	}
	if p.claims, err = decodeLoose[eatClaims](outer.Payload); err != nil {
		return malformed("claims", err)
	}
	// Before the question of encoding, so that the refusal names the reason.
	if f := profileFailure(p.claims); f != nil {
		return parsed{}, f
	}
	if err := canonical(outer.Payload, p.claims); err != nil {
		return malformed("claims", err)
	}
	if err := p.message.UnmarshalCBOR(data); err != nil {
		return malformed("evidence", err)
	}
	p.certificate = header.X5Chain
	return p, nil
}

// profileFailure refuses evidence of another profile and evidence that does not
// say that it is simulated: a software TEE can never claim to be real.
func profileFailure(c eatClaims) *tee.Failure {
	if c.Profile != Profile {
		return &tee.Failure{Code: tee.CodeUnsupported, Claim: "eat_profile", Want: Profile, Got: printable(c.Profile)}
	}
	if !c.Simulated {
		return &tee.Failure{
			Code: tee.CodeUnsupported, Claim: "simulated", Want: "true", Got: "false or absent",
			Hint: "evidence of a software TEE must say that it is simulated",
		}
	}
	return nil
}

func parseSign1(data []byte) (sign1, error) {
	if len(data) > tee.MaxEvidence {
		return sign1{}, fmt.Errorf("%d bytes, at most %d", len(data), tee.MaxEvidence)
	}
	if len(data) == 0 || data[0] != tagSign1 {
		return sign1{}, errors.New("not a tagged COSE_Sign1 message")
	}
	s, err := decodeLoose[sign1](data[1:])
	switch {
	case err != nil:
		return sign1{}, err
	case s.Payload == nil:
		return sign1{}, errors.New("detached payload")
	case !bytes.Equal(s.Unprotected, []byte{emptyMap}):
		return sign1{}, errors.New("unprotected header is not empty")
	case len(s.Signature) != sizeSignature:
		return sign1{}, fmt.Errorf("signature of %d bytes, want %d", len(s.Signature), sizeSignature)
	}
	return s, canonical(data[1:], s)
}

// printable makes foreign text short and safe to show.
func printable(s string) string {
	const most = 120
	if len(s) > most {
		s = s[:most] + "…"
	}
	return fmt.Sprintf("%+q", s)
}
