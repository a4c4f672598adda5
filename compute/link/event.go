package link

import "github.com/cloister-cc/cloister/tee"

// MaxEvent is the largest event in bytes.
const MaxEvent = 256 << 10

// Event is one step in the life of an instance, reported by its agent. The host
// shows it; nobody trusts it: proof is in evidence only.
type Event struct {
	// State is "preparing", "attesting", "ready", "renewed", "exited" or
	// "failed".
	State string `cbor:"1,keyasint" json:"state"`
	// Evidence is what the agent showed at "ready".
	Evidence *tee.Evidence `cbor:"2,keyasint,omitempty" json:"evidence,omitempty"`
	ExitCode int           `cbor:"3,keyasint,omitempty" json:"exit_code,omitempty"`
	// Code, Message and Hint say why an instance failed.
	Code     string        `cbor:"4,keyasint,omitempty" json:"code,omitempty"`
	Message  string        `cbor:"5,keyasint,omitempty" json:"message,omitempty"`
	Hint     string        `cbor:"6,keyasint,omitempty" json:"hint,omitempty"`
	Failures []tee.Failure `cbor:"7,keyasint,omitempty" json:"failures,omitempty"`
	// Lease is the end of the current secrets lease, Unix seconds; 0: none.
	Lease int64 `cbor:"8,keyasint,omitempty" json:"lease,omitempty"`
	// Token is the attestation result that the verifier gave.
	Token string `cbor:"9,keyasint,omitempty" json:"token,omitempty"`
}

// The states of an [Event].
const (
	Preparing = "preparing"
	Attesting = "attesting"
	Ready     = "ready"
	Renewed   = "renewed"
	Exited    = "exited"
	Failed    = "failed"
)
