package keys

import (
	"bytes"

	"github.com/cloister-cc/cloister/internal/frame"
)

// Log keeps the service's state. Append is durable and rollback-protected when
// it returns. Package keys/statelog seals one to the node's TEE; the ledger is
// another.
type Log interface {
	Append(entries [][]byte) ([]Ref, error)
	Read(Ref) ([]byte, error)
}

// Ref says where an entry lies in a [Log]; only the log looks into it.
type Ref any

// entry is one change of state, or one receipt.
type entry struct {
	Key     *keyEntry    `cbor:"1,keyasint,omitempty"`
	Policy  *policyEntry `cbor:"2,keyasint,omitempty"`
	Receipt *Receipt     `cbor:"3,keyasint,omitempty"`
	Boot    *bootEntry   `cbor:"4,keyasint,omitempty"`
}

// keyEntry makes a key, or a new version of one.
type keyEntry struct {
	Name     string `cbor:"1,keyasint"`
	Version  uint32 `cbor:"2,keyasint"`
	Material []byte `cbor:"3,keyasint"`
	Owner    []byte `cbor:"4,keyasint"`
	Policy   []byte `cbor:"5,keyasint"` // JSON
	At       int64  `cbor:"6,keyasint"` // Unix nanoseconds
}

// policyEntry replaces a key's policy.
type policyEntry struct {
	Name   string `cbor:"1,keyasint"`
	Policy []byte `cbor:"2,keyasint"`
	At     int64  `cbor:"3,keyasint"`
}

func (e entry) encode() ([]byte, error) {
	var b bytes.Buffer
	if err := frame.Write(&b, e); err != nil {
		return nil, err
	}
	return b.Bytes()[4:], nil
}

func decodeEntry(b []byte) (entry, error) {
	var e entry
	return e, frame.Unmarshal(b, &e)
}

// Receipt says that something was granted: who got which key under which
// policy. Numbers start at 1 and have no gaps; Previous chains them.
type Receipt struct {
	Number   uint64 `cbor:"1,keyasint" json:"number"`
	Previous []byte `cbor:"2,keyasint" json:"previous"` // SHA-256 of the receipt before, zero for the first
	Time     string `cbor:"3,keyasint" json:"time"`     // RFC 3339; the node's clock, which its host sets
	// Action is "release", "renew", "create", "import", "rotate" or "policy".
	Action       string `cbor:"4,keyasint" json:"action"`
	Key          string `cbor:"5,keyasint" json:"key"`
	Version      uint32 `cbor:"6,keyasint" json:"version"`
	Owner        []byte `cbor:"7,keyasint" json:"owner"`
	PolicyDigest []byte `cbor:"8,keyasint" json:"policy_digest"`
	// The rest is of releases and renewals.
	TEE            string `cbor:"9,keyasint,omitempty" json:"tee,omitempty"`
	Simulated      bool   `cbor:"10,keyasint,omitempty" json:"simulated,omitempty"`
	Measurement    []byte `cbor:"11,keyasint,omitempty" json:"measurement,omitempty"`
	LaunchDigest   []byte `cbor:"12,keyasint,omitempty" json:"launch_digest,omitempty"`
	InstanceID     string `cbor:"13,keyasint,omitempty" json:"instance_id,omitempty"`
	EvidenceDigest []byte `cbor:"14,keyasint,omitempty" json:"evidence_digest,omitempty"`
	Expires        string `cbor:"15,keyasint,omitempty" json:"expires,omitempty"` // RFC 3339
	// Verdict is the name of the record of the verdict (package attest/record), if
	// the node keeps records: with it the verdict can be reached again.
	Verdict string `cbor:"16,keyasint,omitempty" json:"verdict,omitempty"`
}
