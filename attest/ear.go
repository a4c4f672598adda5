package attest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// The eat_profile of every token: of JWTs the one that Trustee and Veraison write
// and read today, of CWTs the one of draft-ietf-rats-ear-04 section 3.
const (
	EARProfile    = "tag:github.com,2023:veraison/ear"
	EARProfileCWT = "tag:ietf.org,2026:rats/ear#04"
)

// Status is a trustworthiness tier of AR4SI (draft-ietf-rats-ar4si section 2.3)
// in EAR's spelling.
type Status string

// The tiers.
const (
	StatusNone            Status = "none"            // nothing was appraised
	StatusAffirming       Status = "affirming"       // accepted, and nothing speaks against it
	StatusWarning         Status = "warning"         // accepted, with a known weakness
	StatusContraindicated Status = "contraindicated" // whoever does not insist on this very thing must refuse
)

// Values of a trustworthiness vector (AR4SI section 2.3.4). Each is a statement,
// so a component that we know nothing about is left out.
const (
	valueAffirming       = 2  // genuine; memory is closed to the host
	valueHostMayLook     = 32 // runtime-opaque: closed to other guests, open to the host
	valueKnownWeakness   = 32 // hardware: genuine, with published vulnerabilities
	valueContraindicated = 96 // hardware: revoked; runtime-opaque: open to the host by design
	firstWarning         = 32
	firstContraindicated = 96
)

const (
	deviceName         = "cpu0" // as Trustee names the main device
	policyPrefix       = "sha256:"
	verifierDeveloper  = "https://github.com/cloister-cc/cloister"
	minNonce, maxNonce = 8, 64 // bytes; RFC 9711 section 4.1 bounds their text
)

// earClaims is the body of a token, in the order in which a JWT has it; see
// [cwtOf] for the CBOR form. All members but aud, eat_nonce and cnf are required.
type earClaims struct {
	Profile    string          `json:"eat_profile"`
	Issuer     string          `json:"iss"`
	Audience   *string         `json:"aud,omitempty"`
	IssuedAt   *int64          `json:"iat"`
	NotBefore  *int64          `json:"nbf"`
	Expires    *int64          `json:"exp"`
	ID         string          `json:"jti"`
	Nonce      *string         `json:"eat_nonce,omitempty"`
	Confirm    *confirmation   `json:"cnf,omitempty"`
	VerifierID *verifierID     `json:"ear.verifier-id"`
	Simulated  *bool           `json:"cloister.simulated"`
	Debug      *bool           `json:"cloister.debug"`
	Devices    devices         `json:"submods"`
	Cloister   *cloisterClaims `json:"cloister.claims"`
}

// devices and confirmation refuse members that they do not know: what is
// ignored there could be what speaks against the device or its bearer. Elsewhere
// unknown members are ignored (RFC 7519 section 4).
type devices map[string]earAppraisal

// UnmarshalJSON refuses unknown members.
func (d *devices) UnmarshalJSON(b []byte) error {
	return decodeKnown(b, (*map[string]earAppraisal)(d))
}

// confirmation names the key that the attested code holds (RFC 7800 section 3.2).
type confirmation struct {
	JWK *jwk `json:"jwk"`
}

// UnmarshalJSON refuses unknown members.
func (c *confirmation) UnmarshalJSON(b []byte) error {
	type plain confirmation
	return decodeKnown(b, (*plain)(c))
}

type verifierID struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

type earAppraisal struct {
	Status   Status       `json:"ear.status"`
	Vector   *trustVector `json:"ear.trustworthiness-vector,omitempty"`
	PolicyID string       `json:"ear.appraisal-policy-id,omitempty"`
}

type trustVector struct {
	InstanceIdentity int `json:"instance-identity,omitempty"`
	Hardware         int `json:"hardware,omitempty"`
	RuntimeOpaque    int `json:"runtime-opaque,omitempty"`
}

// cloisterClaims is what EAR has no words for.
type cloisterClaims struct {
	Claims             claimsTree    `json:"claims"` // tee.Claims.Tree
	Findings           []tee.Finding `json:"findings"`
	EvidenceDigest     string        `json:"evidence_digest"`     // hex
	EndorsementsDigest string        `json:"endorsements_digest"` // hex
	VerifiedAt         int64         `json:"verified_at"`         // Unix seconds
}

// claimsTree reads whole numbers as int64 or uint64, as [tee.Claims.Tree] makes
// them.
type claimsTree map[string]any

// UnmarshalJSON decodes a claims tree.
func (t *claimsTree) UnmarshalJSON(b []byte) (err error) {
	*t, err = decodeTree(b)
	return err
}

// treeSummary is what the rest of a token must agree with.
type treeSummary struct {
	TEE       tee.Kind      `json:"tee"`
	Simulated bool          `json:"simulated"`
	Debug     bool          `json:"debug"`
	TCB       tee.TCBStatus `json:"tcb_status"`
}

// vectorOf says what verified claims are worth in AR4SI's terms. It makes no
// statement about executables and configuration: whether they are the right
// ones is the policy's word, and the policy is named beside it.
func vectorOf(s treeSummary) trustVector {
	var v trustVector
	switch {
	case s.Simulated, s.Debug:
		v.RuntimeOpaque = valueContraindicated
	case s.TEE == tee.TPM:
		v.RuntimeOpaque = valueHostMayLook
	default:
		v.RuntimeOpaque = valueAffirming
	}
	if s.Simulated {
		return v
	}
	v.InstanceIdentity = valueAffirming
	switch s.TCB {
	case tee.TCBUpToDate:
		v.Hardware = valueAffirming
	case tee.TCBOutOfDate, tee.TCBOutOfDateConfigurationNeeded, tee.TCBSWHardeningNeeded, tee.TCBConfigurationNeeded,
		tee.TCBConfigurationAndSWHardeningNeeded, tee.TCBTDRelaunchAdvised, tee.TCBTDRelaunchAdvisedConfigurationNeeded:
		v.Hardware = valueKnownWeakness
	case tee.TCBRevoked:
		v.Hardware = valueContraindicated
	case tee.TCBUnknown, tee.TCBNotApplicable:
	}
	return v
}

// status is the worst tier of the vector.
func (v trustVector) status() Status {
	switch worst := max(v.InstanceIdentity, v.Hardware, v.RuntimeOpaque); {
	case worst >= firstContraindicated:
		return StatusContraindicated
	case worst >= firstWarning:
		return StatusWarning
	default:
		return StatusAffirming
	}
}

// appraisalOf is the statement about the device: accepted under a policy and as
// good as the vector says, or, without a policy, nothing.
func appraisalOf(s treeSummary, policyDigest [32]byte) earAppraisal {
	if policyDigest == ([32]byte{}) {
		return earAppraisal{Status: StatusNone}
	}
	v := vectorOf(s)
	return earAppraisal{Status: v.status(), Vector: &v, PolicyID: policyPrefix + hex.EncodeToString(policyDigest[:])}
}

func (a earAppraisal) equal(b earAppraisal) bool {
	if a.Status != b.Status || a.PolicyID != b.PolicyID || (a.Vector == nil) != (b.Vector == nil) {
		return false
	}
	return a.Vector == nil || *a.Vector == *b.Vector
}

// policyDigest reads the policy id; zero for none.
func (a earAppraisal) policyDigest() ([32]byte, bool) {
	if a.PolicyID == "" {
		return [32]byte{}, true
	}
	text, ok := strings.CutPrefix(a.PolicyID, policyPrefix)
	d, okHex := digestFromHex(text)
	return d, ok && okHex
}

func digestFromHex(s string) ([32]byte, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 || hex.EncodeToString(b) != s {
		return [32]byte{}, false
	}
	return [32]byte(b), true
}

func decodeTree(b []byte) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	for k, v := range m {
		var err error
		if m[k], err = plainNumbers(v); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func plainNumbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if u, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return u, nil
		}
		if i, err := strconv.ParseInt(string(v), 10, 64); err == nil && i < 0 { // -0 is no integer
			return i, nil
		}
		f, err := v.Float64()
		if err != nil || math.IsInf(f, 0) {
			return nil, fmt.Errorf("a number out of range")
		}
		return f, nil
	case []any:
		for i := range v {
			if v[i], err = plainNumbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = plainNumbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// seconds is a NumericDate (RFC 7519 section 2) of whole seconds.
func seconds(t time.Time) *int64 {
	s := t.Unix()
	return &s
}
