package tee

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
)

// MaxEvidence is the largest evidence, in bytes, that any verifier parses.
const MaxEvidence = 64 << 10

// MaxEventLog is the largest event log, in bytes, that any verifier parses.
const MaxEventLog = 512 << 10

// Evidence is what an attester produced (RFC 9334 section 8.1): bytes in the
// format of the named TEE. Nothing in it is true until a [Verifier] said so.
type Evidence struct {
	Kind Kind   `json:"tee"`
	Data []byte `json:"data"`
	// Certificates are DER certificates that the attester sent along for the
	// verifier's convenience (a VCEK, the software TEE's platform certificate).
	// They are as untrusted as Data.
	Certificates [][]byte `json:"certificates,omitempty"`
	// EventLog is the firmware's log of what it measured into the registers of
	// a TPM (TCG PC Client log) or a TD (CCEL), where there is one. A verifier
	// believes only what it replays to.
	EventLog []byte `json:"event_log,omitempty"`
}

// Attester produces evidence inside a TEE.
type Attester interface {
	// Kind is the TEE that this process runs in.
	Kind() Kind
	// Evidence asks the TEE for evidence that carries reportData.
	Evidence(ctx context.Context, reportData [64]byte) (Evidence, error)
}

// Sealer derives sealing keys inside a TEE: the same code on the same platform
// gets the same key again, nobody else does.
type Sealer interface {
	// SealingKey returns the 32-byte key for the policy and context. It refuses
	// (CodeSealPolicy) a policy that the caller's own identity does not meet.
	SealingKey(ctx context.Context, policy SealPolicy, context []byte) ([]byte, error)
}

// SealPolicy says which code may derive a sealing key again. The zero value is
// refused; use [SealToMeasurement] or [SealToSigner].
type SealPolicy struct {
	// To is "measurement" or "signer".
	To string
	// SVN is the security version, at most the caller's own, that the key is
	// bound to when To is "signer": code of the same signer and product with
	// this SVN or a higher one derives the same key.
	SVN uint32
}

// SealToMeasurement binds a sealing key to exactly this code.
func SealToMeasurement() SealPolicy { return SealPolicy{To: "measurement"} }

// SealToSigner binds a sealing key to the signer and product of this code, at
// security version svn or higher.
func SealToSigner(svn uint32) SealPolicy { return SealPolicy{To: "signer", SVN: svn} }

// Counters are monotonic counters of the platform, each with a 32-byte digest
// of the state that it stands for, so that a value names one state only.
type Counters interface {
	// ReadCounter returns the counter's value and digest; a counter that was
	// never advanced has value 0 and a zero digest.
	ReadCounter(ctx context.Context, name string) (value uint64, digest [32]byte, err error)
	// AdvanceCounter moves the counter from the value from to from+1 and stores
	// digest with it, durably, before it returns. It refuses (CodeCounter) when
	// the counter does not stand at from.
	AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error
}

// Bind returns the report data that ties fields to evidence: SHA-512 over the
// context and every field, each preceded by its length as 8 bytes big endian,
// so that no two different lists of fields collide.
func Bind(context string, fields ...[]byte) [64]byte {
	h := sha512.New()
	var n [8]byte
	write := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	write([]byte(context))
	for _, f := range fields {
		write(f)
	}
	return [64]byte(h.Sum(nil))
}
