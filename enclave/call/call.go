// Package call is the private protocol between a program in an instance and the
// agent beside it: requests and answers in frames (package internal/frame) on a
// socket that the program inherits. Programs use package enclave, never this.
//
// # What it protects against
//
// A program that sends the agent anything but well-formed, bounded requests.
//
// # What it does not protect against
//
// Nothing crosses a trust boundary here in clear that the program may not see:
// the secrets of an instance belong to its program.
package call

import "github.com/cloister-cc/cloister/tee"

// The descriptors that a program inherits.
const (
	SocketFD = 3 // requests to the agent
	PortsFD  = 4 // connections from the agent, as descriptors
)

// EnvName is the environment variable that tells a program it has an agent.
const EnvName = "CLOISTER_ENCLAVE"

// The environment variables that name a program's directories.
const (
	EnvInputs  = "CLOISTER_INPUTS"
	EnvOutputs = "CLOISTER_OUTPUTS"
	EnvState   = "CLOISTER_STATE"
)

// MaxFrame is the largest request or answer in bytes.
const MaxFrame = 1 << 20

// Op is what a program asks for.
type Op string

// The operations.
const (
	Self           Op = "self"
	Secret         Op = "secret"
	Evidence       Op = "evidence"        // over Bind("cloister program v1", data)
	EvidenceRaw    Op = "evidence_raw"    // over data itself; built-in roles only
	SealingKey     Op = "sealing_key"     // Name: "measurement" or "signer", Number: SVN
	CounterRead    Op = "counter_read"    // To, Name
	CounterAdvance Op = "counter_advance" // To, Name, Number: from, Data: digest
	Listen         Op = "listen"          // Number: port
	Fail           Op = "fail"            // Name: code, Data: message, Hint; why the program is about to end; built-in roles only
)

// ProgramContext is the context of report data that programs ask for, so that
// no program can have the agent's own bindings signed.
const ProgramContext = "cloister program v1"

// Request is one question.
type Request struct {
	Op     Op     `cbor:"1,keyasint"`
	Name   string `cbor:"2,keyasint,omitempty"`
	Number uint64 `cbor:"3,keyasint,omitempty"`
	Data   []byte `cbor:"4,keyasint,omitempty"`
	Hint   string `cbor:"5,keyasint,omitempty"`
	To     string `cbor:"6,keyasint,omitempty"` // whose counter: "measurement" or "signer", as in tee.SealPolicy
}

// Answer is the answer to one question; Code is empty for success.
type Answer struct {
	Code     tee.Code      `cbor:"1,keyasint,omitempty"`
	Message  string        `cbor:"2,keyasint,omitempty"`
	Hint     string        `cbor:"3,keyasint,omitempty"`
	Data     []byte        `cbor:"4,keyasint,omitempty"`
	Number   uint64        `cbor:"5,keyasint,omitempty"`
	Evidence *tee.Evidence `cbor:"6,keyasint,omitempty"`
	Identity *Identity     `cbor:"7,keyasint,omitempty"`
	Start    *Start        `cbor:"8,keyasint,omitempty"`
}

// Identity is what an instance knows about itself.
type Identity struct {
	TEE           tee.Kind `cbor:"1,keyasint" json:"tee"`
	Simulated     bool     `cbor:"2,keyasint" json:"simulated"`
	Debug         bool     `cbor:"3,keyasint" json:"debug"`
	Measurement   []byte   `cbor:"4,keyasint" json:"measurement"`
	LaunchDigest  []byte   `cbor:"5,keyasint" json:"launch_digest"`
	InstanceID    string   `cbor:"6,keyasint" json:"instance_id"`
	RuntimeDigest []byte   `cbor:"7,keyasint" json:"runtime_digest"`
	Root          []byte   `cbor:"8,keyasint,omitempty" json:"root,omitempty"` // DER, software TEE only
	Args          []string `cbor:"9,keyasint,omitempty" json:"args,omitempty"`
}

// MaxAnnouncement is the largest message on the ports socket in bytes.
const MaxAnnouncement = 64

// Announcement comes with each connection that the agent passes to a program.
type Announcement struct {
	Port uint16 `cbor:"1,keyasint"`
}

// Start is what the agent tells the process that becomes the program, once the
// instance is ready: before that, not a byte of the program has run.
type Start struct {
	Kind      string   `cbor:"1,keyasint"` // of the image: wasm, elf, builtin
	Role      string   `cbor:"2,keyasint"`
	Image     string   `cbor:"3,keyasint,omitempty"` // path of the image
	Args      []string `cbor:"4,keyasint,omitempty"`
	Env       []string `cbor:"5,keyasint,omitempty"`
	In        string   `cbor:"6,keyasint,omitempty"` // directories
	Out       string   `cbor:"7,keyasint,omitempty"`
	State     string   `cbor:"8,keyasint,omitempty"`
	MemoryMiB uint32   `cbor:"9,keyasint"`
}

// Await asks the agent when to start and as what; its answer carries a Start.
const Await Op = "await"
