package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"unicode"

	"github.com/cloister-cc/cloister/tee"
)

// Bounds on what comes from outside, in bytes where nothing else is said.
const (
	maxToken      = 16 << 10
	maxText       = 256
	maxConfig     = 1 << 10
	maxKey        = 256
	maxComponents = 64 // how many
)

// Sizes in bytes that the specification sets.
const (
	challengeSize      = 64
	personalizeSize    = 64
	implementationSize = 32
	instanceSize       = 33
	extensible         = 4 // measurements
)

// Labels of the two tokens in the collection.
const (
	labelPlatform = 44234
	labelRealm    = 44241
)

// How a collection begins. The older form is a map of tokens, the newer one a CMW
// collection whose records name the media type of a token by its number.
var (
	headCollection   = []byte{0xD9, 0x01, 0x8F} // tag 399
	headCMW          = []byte{0xD9, 0x03, 0x8B} // tag 907
	contentFormatEAT = uint64(263)              // application/eat+cwt
	profilesPlatform = []string{"http://arm.com/CCA-SSD/1.0.0", "tag:arm.com,2023:cca_platform#1.0.0"}
	profilesRealm    = []string{"tag:arm.com,2023:realm#1.0.0"}
	digestSizes      = []int{32, 48, 64}
)

// Token is a parsed attestation token. Nothing in it is true until
// [Verifier.Verify] said so.
type Token struct {
	Platform Platform
	Realm    Realm

	platform, realm *signed
	realmKey        *ecdsa.PublicKey
}

// Platform is what the platform says of itself.
type Platform struct {
	Profile        string      `cbor:"265,keyasint"`
	Challenge      []byte      `cbor:"10,keyasint"`   // the digest of the realm's key
	Implementation []byte      `cbor:"2396,keyasint"` // 32 bytes: the product
	Instance       []byte      `cbor:"256,keyasint"`  // 33 bytes: this one
	Config         []byte      `cbor:"2401,keyasint"`
	Lifecycle      uint16      `cbor:"2395,keyasint"`
	Components     []Component `cbor:"2399,keyasint"`
	Service        string      `cbor:"2400,keyasint"` // where its maker verifies
	Hash           string      `cbor:"2402,keyasint"`
}

// Component is one piece of the platform's firmware.
type Component struct {
	Type        string `cbor:"1,keyasint"`
	Measurement []byte `cbor:"2,keyasint"`
	Version     string `cbor:"4,keyasint"`
	Signer      []byte `cbor:"5,keyasint"`
	Hash        string `cbor:"6,keyasint"` // empty: the platform's
}

// Realm is what the monitor says of the realm.
type Realm struct {
	Profile         string   `cbor:"265,keyasint"`
	Challenge       []byte   `cbor:"10,keyasint"` // 64 bytes: what the realm asked for
	Personalization []byte   `cbor:"44235,keyasint"`
	Hash            string   `cbor:"44236,keyasint"`
	PublicKey       []byte   `cbor:"44237,keyasint"` // COSE_Key
	Initial         []byte   `cbor:"44238,keyasint"` // RIM
	Extensible      [][]byte `cbor:"44239,keyasint"` // REM, 4
	PublicKeyHash   string   `cbor:"44240,keyasint"` // how Platform.Challenge is made
}

// Lifecycle states (section "Platform lifecycle"): the upper byte of the value.
const lifecycleSecured = 0x30

// LifecycleName spells the state.
func (p Platform) LifecycleName() string {
	names := map[uint16]string{
		0x00: "unknown", 0x10: "assembly_and_test", 0x20: "rot_provisioning", lifecycleSecured: "secured",
		0x40: "non_cca_platform_debug", 0x50: "recoverable_cca_platform_debug", 0x60: "decommissioned",
	}
	if name, ok := names[p.Lifecycle>>8]; ok {
		return name
	}
	return "invalid"
}

// Debug reports whether the platform is in any other state than secured.
func (p Platform) Debug() bool { return p.Lifecycle>>8 != lifecycleSecured }

// ParseToken reads an attestation token, in either form. Errors are
// *tee.VerifyError: CodeParse with all that is wrong, and CodeUnsupported for other
// algorithms and profiles.
func ParseToken(b []byte) (*Token, error) {
	if len(b) > maxToken {
		return nil, malformed("token", fmt.Sprintf("at most %d bytes", maxToken), fmt.Sprint(len(b)))
	}
	platform, realm, err := split(b)
	if err != nil {
		return nil, malformed("token", "a collection of a platform and a realm token", fmt.Sprintf("%.200q", err.Error()))
	}
	t := &Token{}
	var failures []tee.Failure
	t.platform = readToken("platform token", platform, &t.Platform, &failures)
	t.realm = readToken("realm token", realm, &t.Realm, &failures)
	if len(failures) == 0 {
		failures = append(t.Platform.check(), t.checkRealm()...)
	}
	if len(failures) > 0 {
		return nil, &tee.VerifyError{Kind: tee.ArmCCA, Failures: failures}
	}
	return t, nil
}

// split takes the collection apart.
func split(b []byte) (platform, realm []byte, err error) {
	if rest, ok := bytes.CutPrefix(b, headCollection); ok {
		var tokens map[uint64][]byte
		if err := decoding().Unmarshal(rest, &tokens); err != nil {
			return nil, nil, err
		}
		if len(tokens) != 2 {
			return nil, nil, fmt.Errorf("%d tokens", len(tokens))
		}
		return tokens[labelPlatform], tokens[labelRealm], nil
	}
	rest, ok := bytes.CutPrefix(b, headCMW)
	if !ok {
		return nil, nil, errors.New("another tag")
	}
	var records map[uint64]struct {
		_      struct{} `cbor:",toarray"`
		Format uint64
		Token  []byte
	}
	if err := decoding().Unmarshal(rest, &records); err != nil {
		return nil, nil, err
	}
	p, r := records[labelPlatform], records[labelRealm]
	if len(records) != 2 || p.Format != contentFormatEAT || r.Format != contentFormatEAT {
		return nil, nil, fmt.Errorf("%d tokens, of formats %d and %d", len(records), p.Format, r.Format)
	}
	return p.Token, r.Token, nil
}

// readToken reads one token and its claims; nil beside a failure.
func readToken(name string, b []byte, claims any, failures *[]tee.Failure) *signed {
	s, err := parseSigned(b)
	if err == nil {
		err = decoding().Unmarshal(s.payload, claims)
	}
	if err != nil {
		f := tee.Failure{Code: tee.CodeParse, Claim: name, Want: "COSE_Sign1 of claims", Got: fmt.Sprintf("%.200q", err.Error())}
		if errors.Is(err, errAlgorithm) {
			f.Code = tee.CodeUnsupported
		}
		*failures = append(*failures, f)
		return nil
	}
	return s
}

func malformed(claim, want, got string) error {
	return tee.Refuse(tee.ArmCCA, tee.CodeParse, claim, want, got, "pass the token as the realm got it, not in base64")
}

// hashOf computes a digest by the name that tokens have for it.
func hashOf(name string, b []byte) []byte {
	switch name {
	case "sha-256":
		sum := sha256.Sum256(b)
		return sum[:]
	case "sha-384":
		sum := sha512.Sum384(b)
		return sum[:]
	case "sha-512":
		sum := sha512.Sum512(b)
		return sum[:]
	default:
		return nil
	}
}

// isText accepts printable text of at most maxText bytes.
func isText(s string) bool {
	if len(s) > maxText {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}
