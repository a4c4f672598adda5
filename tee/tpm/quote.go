package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// Constants of TPMS_ATTEST (part 2, section "Attestation Structures").
const (
	magicGenerated = 0xFF544347 // TPM_GENERATED_VALUE: made by a TPM itself
	typeQuote      = 0x8018     // TPM_ST_ATTEST_QUOTE
)

// Banks are values of PCRs by algorithm and index.
type Banks map[eventlog.Algorithm]map[uint32][]byte

// Selection is which PCRs of an algorithm a quote is about, in ascending order.
type Selection struct {
	Algorithm eventlog.Algorithm
	Indices   []uint32
}

// Quote is a parsed TPMS_ATTEST of a quote. Nothing in it is true until its
// signature was verified ([CheckQuote]). It does not alias the parsed bytes.
type Quote struct {
	QualifiedSigner []byte // the name of the key and of its ancestors
	ExtraData       []byte // what the caller asked to have signed
	Clock           uint64 // milliseconds that the TPM was powered
	ResetCount      uint32 // of power cycles
	RestartCount    uint32 // of resumes since
	Safe            bool   // whether no greater value of Clock was reported before
	FirmwareVersion uint64 // of the TPM, as its maker counts
	Selections      []Selection
	PCRDigest       []byte // over the values of Selections in their order
}

// ParseQuote reads a TPMS_ATTEST. It refuses everything that is not a quote made
// by a TPM and bytes after it (CodeParse), and PCRs of algorithms that are not
// known (CodeUnsupported). Errors are *tee.VerifyError.
func ParseQuote(b []byte) (*Quote, error) {
	r := reader{b: bytes.Clone(b)}
	if magic, kind := r.u32(), r.u16(); r.err == nil && (magic != magicGenerated || kind != typeQuote) {
		return nil, tee.Refuse(tee.TPM, tee.CodeParse, "quote", fmt.Sprintf("magic %#x, type %#x", uint32(magicGenerated), typeQuote), fmt.Sprintf("magic %#x, type %#x", magic, kind),
			"only TPM2_Quote makes a quote; other signed bytes prove nothing about registers")
	}
	q := &Quote{QualifiedSigner: r.sized(maxName), ExtraData: r.sized(maxExtraData)}
	q.Clock, q.ResetCount, q.RestartCount = r.u64(), r.u32(), r.u32()
	safe := r.u8()
	q.Safe = safe == 1
	if safe > 1 {
		r.fail(errors.New("safe is neither yes nor no"))
	}
	q.FirmwareVersion = r.u64()
	q.Selections = r.selections()
	q.PCRDigest = r.sized(64)
	if err := r.end(); err != nil {
		return nil, malformed("quote", "TPMS_ATTEST", err)
	}
	for _, s := range q.Selections {
		if !s.Algorithm.Known() {
			return nil, unsupported("quote", fmt.Sprintf("PCRs of %v", eventlog.Algorithms()), s.Algorithm.String())
		}
	}
	return q, nil
}

// selections reads a TPML_PCR_SELECTION. It wants each algorithm at most once,
// so that the order of values is plain.
func (r *reader) selections() []Selection {
	n := r.u32()
	if n > maxBanks {
		r.fail(fmt.Errorf("%d banks, at most %d", n, maxBanks))
		return nil
	}
	var out []Selection
	for range n {
		s := Selection{Algorithm: eventlog.Algorithm(r.u16())}
		bits := int(r.u8())
		if bits > (maxPCR+1)/8 {
			r.fail(fmt.Errorf("a selection of %d bytes", bits))
		}
		for i, b := range r.bytes(bits) {
			for bit := range 8 {
				if b>>bit&1 == 1 {
					s.Indices = append(s.Indices, uint32(8*i+bit))
				}
			}
		}
		if slices.ContainsFunc(out, func(o Selection) bool { return o.Algorithm == s.Algorithm }) {
			r.fail(fmt.Errorf("%v is selected twice", s.Algorithm))
			return nil
		}
		out = append(out, s)
	}
	return out
}

// appendSelections is the inverse of selections, with three bytes as every PC has.
func appendSelections(b []byte, selections ...Selection) []byte {
	b = append(b, 0, 0, 0, byte(len(selections)))
	for _, s := range selections {
		var bits [3]byte
		for _, i := range s.Indices {
			if i < 24 {
				bits[i/8] |= 1 << (i % 8)
			}
		}
		b = append(b, byte(s.Algorithm>>8), byte(s.Algorithm), 3)
		b = append(b, bits[:]...)
	}
	return b
}

// CheckQuote verifies a quote: its form, its signature by key, and that the given
// PCR values are the quoted ones. It returns the quote and the values that it
// proves: those that it selects and no others. Both are nil unless there are no
// failures. Failures are CodeParse, CodeUnsupported (also for a weak key, or
// SHA-1), CodeSignature, and CodeBinding for PCR values that are missing or other
// ones.
func CheckQuote(message []byte, signature *Signature, key crypto.PublicKey, values Banks) (*Quote, Banks, []tee.Failure) {
	if signature == nil {
		return nil, nil, []tee.Failure{{Code: tee.CodeSignature, Claim: "signature", Want: "by the attestation key", Got: "none"}}
	}
	if err := checkKey(key); err != nil {
		return nil, nil, []tee.Failure{{Code: tee.CodeUnsupported, Claim: "attestation key", Want: "RSA of 2048 bits or more, or a NIST curve", Got: err.Error()}}
	}
	return checkQuote(message, signature, key, values)
}

// checkQuote is CheckQuote for a key that is good, or nil: then the caller has a
// failure already, and everything else is checked.
func checkQuote(message []byte, signature *Signature, key crypto.PublicKey, values Banks) (*Quote, Banks, []tee.Failure) {
	var failures []tee.Failure
	q, err := ParseQuote(message)
	if err != nil {
		failures = Failures(err)
	}
	if key != nil {
		failures = append(failures, signature.check(key, message)...)
	}
	if q == nil {
		return nil, nil, failures
	}
	proven, more := q.checkPCRs(values, signature.Hash)
	if failures = append(failures, more...); len(failures) > 0 || key == nil {
		return nil, nil, failures
	}
	return q, proven, nil
}

// checkPCRs compares values with the quoted digest, which is made with the hash
// of the signature (part 3, TPM2_Quote).
func (q *Quote) checkPCRs(values Banks, hash eventlog.Algorithm) (Banks, []tee.Failure) {
	bad := func(claim, want, got, hint string) (Banks, []tee.Failure) {
		return nil, []tee.Failure{{Code: tee.CodeBinding, Claim: claim, Want: want, Got: got, Hint: hint}}
	}
	proven := make(Banks)
	var parts [][]byte
	for _, s := range q.Selections {
		if len(s.Indices) > 0 {
			proven[s.Algorithm] = make(map[uint32][]byte, len(s.Indices))
		}
		for _, i := range s.Indices {
			v := values[s.Algorithm][i]
			if len(v) != s.Algorithm.Size() {
				return bad("pcrs", fmt.Sprintf("%d bytes of %s PCR %d, which is quoted", s.Algorithm.Size(), s.Algorithm, i), fmt.Sprintf("%d bytes", len(v)), "send the values of all quoted PCRs along")
			}
			parts = append(parts, v)
			proven[s.Algorithm][i] = bytes.Clone(v)
		}
	}
	if len(parts) == 0 {
		return bad("pcrs", "at least one", "none is quoted", "")
	}
	if got := hash.Sum(parts...); !bytes.Equal(got, q.PCRDigest) {
		return bad("pcrs", "digest "+hex.EncodeToString(q.PCRDigest), hex.EncodeToString(got), "the PCR values are not those that the TPM signed")
	}
	return proven, nil
}
