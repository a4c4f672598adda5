package tpm

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// typeCertify is TPM_ST_ATTEST_CERTIFY.
const typeCertify = 0x8017

// More of TPMA_OBJECT, which keys may have or not.
const (
	stClear Attributes = 1 << 2  // ends when the TPM restarts
	noDA    Attributes = 1 << 10 // does not count wrong passwords
)

// Certification is a parsed TPMS_ATTEST of TPM2_Certify: a TPM's word that it
// holds the key with a name. Nothing in it is true until its signature was
// verified ([CheckCertification]). It does not alias the parsed bytes.
type Certification struct {
	QualifiedSigner []byte // the name of the key that signed and of its ancestors
	ExtraData       []byte // what the caller asked to have signed
	ResetCount      uint32 // of power cycles
	RestartCount    uint32 // of resumes since
	Name            []byte // of the certified key; see [Public.Name]
}

// ParseCertification reads a TPMS_ATTEST. It refuses everything that is not a
// certification made by a TPM, and bytes after it. Errors are *tee.VerifyError
// with CodeParse.
func ParseCertification(b []byte) (*Certification, error) {
	const claim = "certification"
	r := reader{b: bytes.Clone(b)}
	if magic, kind := r.u32(), r.u16(); r.err == nil && (magic != magicGenerated || kind != typeCertify) {
		return nil, tee.Refuse(tee.TPM, tee.CodeParse, claim, fmt.Sprintf("magic %#x, type %#x", uint32(magicGenerated), typeCertify), fmt.Sprintf("magic %#x, type %#x", magic, kind),
			"only TPM2_Certify makes a certification; other signed bytes prove nothing about keys")
	}
	c := &Certification{QualifiedSigner: r.sized(maxName), ExtraData: r.sized(maxExtraData)}
	r.u64() // the clock
	c.ResetCount, c.RestartCount = r.u32(), r.u32()
	if r.u8() > 1 {
		r.fail(errors.New("safe is neither yes nor no"))
	}
	r.u64() // the firmware's version
	c.Name = r.sized(maxName)
	r.sized(maxName) // the name of the certified key and of its ancestors
	if err := r.end(); err != nil {
		return nil, malformed(claim, "TPMS_ATTEST", err)
	}
	return c, nil
}

// CheckCertification verifies that ak signed that its TPM holds the given key. It
// returns nil and failures if not: CodeParse, CodeUnsupported (a weak ak, or
// SHA-1), CodeSignature, and CodeBinding when it is about another key. Whether ak
// signs nothing but what a TPM made is for the caller to know.
func CheckCertification(message []byte, signature *Signature, ak crypto.PublicKey, key *Public) (*Certification, []tee.Failure) {
	if signature == nil || key == nil {
		return nil, []tee.Failure{{Code: tee.CodeSignature, Claim: "certification", Want: "a signature and a key", Got: "none"}}
	}
	if err := checkKey(ak); err != nil {
		return nil, []tee.Failure{{Code: tee.CodeUnsupported, Claim: "attestation key", Want: "RSA of 2048 bits or more, or a NIST curve", Got: err.Error()}}
	}
	var failures []tee.Failure
	c, err := ParseCertification(message)
	if err != nil {
		failures = Failures(err)
	}
	for _, f := range signature.check(ak, message) {
		f.Claim = "signature of the certification"
		if f.Code == tee.CodeSignature {
			f.Hint = "the certification was altered, or another key signed it"
		}
		failures = append(failures, f)
	}
	if c != nil && !bytes.Equal(c.Name, key.Name()) {
		failures = append(failures, tee.Failure{Code: tee.CodeBinding, Claim: "certification", Want: "of the key " + hex.EncodeToString(key.Name()), Got: hex.EncodeToString(c.Name), Hint: "it is of another key, or the public area was altered"})
	}
	if len(failures) > 0 {
		return nil, failures
	}
	return c, nil
}

// ParsePublicArea reads a TPM2B_PUBLIC, or a whole response to TPM2_ReadPublic,
// which has the key's name and then its qualified name behind it. qualified is nil
// where there is none; nothing but the TPM can say that it is right. Errors are
// *tee.VerifyError, those of [ParsePublic] and CodeParse.
func ParsePublicArea(b []byte) (p *Public, qualified []byte, err error) {
	const claim = "public area"
	r := reader{b: bytes.Clone(b)}
	area := r.sized(maxCommand)
	if r.err != nil {
		return nil, nil, malformed(claim, "TPM2B_PUBLIC", r.err)
	}
	if p, err = ParsePublic(area); err != nil || len(r.b) == 0 {
		return p, nil, err
	}
	name := r.sized(maxName)
	qualified = r.sized(maxName)
	if err := r.end(); err != nil {
		return nil, nil, malformed(claim, "nothing behind the TPM2B_PUBLIC, or two names", err)
	}
	if !bytes.Equal(name, p.Name()) {
		return nil, nil, malformed(claim, "the key's name behind it", errors.New("another name"))
	}
	return p, qualified, nil
}

// PolicyPCR is the policy digest (SHA-256) of keys that can be used only while the
// quoted registers have the quoted values (part 3, TPM2_PolicyPCR). It is nil for
// quotes that are not made with SHA-256.
func (q *Quote) PolicyPCR() []byte {
	if len(q.PCRDigest) != sha256.Size {
		return nil
	}
	return policyPCR(q.PCRDigest, q.Selections...)
}

func policyPCR(digest []byte, selections ...Selection) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, sha256.Size), ccPolicyPCR) // the policy before was an empty one
	policy := sha256.Sum256(append(appendSelections(b, selections...), digest...))
	return policy[:]
}

// CheckSealing lists why what is encrypted to a key can be read by others than its
// own TPM in the state that a policy digest of SHA-256 wants: it is no RSA key
// that the TPM made for decryption alone and keeps, or it can be used otherwise
// than under that policy. The public area is as true as where it comes from: see
// [CheckCertification].
func (p *Public) CheckSealing(policy []byte) []tee.Failure {
	const claim = "encryption key"
	const want = FixedTPM | FixedParent | SensitiveDataOrigin | Decrypt
	var failures []tee.Failure
	fail := func(code tee.Code, want, got, hint string) {
		failures = append(failures, tee.Failure{Code: code, Claim: claim, Want: want, Got: got, Hint: hint})
	}
	if p.Attributes&^(stClear|noDA|AdminWithPolicy) != want {
		fail(tee.CodeUnsupported, "fixedTPM, fixedParent, sensitiveDataOrigin, decrypt, and of others at most stClear, adminWithPolicy and noDA",
			fmt.Sprintf("attributes %#x", uint32(p.Attributes)), "create the key without userWithAuth, sign and restricted: its policy is what keeps it")
	}
	if _, ok := p.Key.(*rsa.PublicKey); !ok || p.SymmetricBits != 0 || p.Scheme != 0 && p.Scheme != algRSAE {
		fail(tee.CodeUnsupported, "RSA with no scheme, or RSAES", fmt.Sprintf("%T with scheme %#x and a symmetric key of %d bits", p.Key, uint16(p.Scheme), p.SymmetricBits), "")
	}
	if p.NameAlgorithm != eventlog.SHA256 || len(policy) != sha256.Size || !bytes.Equal(p.AuthPolicy, policy) {
		fail(tee.CodeBinding, "the policy "+hex.EncodeToString(policy)+" (PolicyPCR of what is quoted, SHA-256)", hex.EncodeToString(p.AuthPolicy), "the key could be used in another state than the quoted one: quote the registers that its policy names")
	}
	return failures
}
