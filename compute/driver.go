package compute

import (
	"context"
	"io"
	"os"

	"github.com/cloister-cc/cloister/tee"
)

// Driver starts instances of one TEE. The life cycle around it (intent, shim,
// logs, restart) is the same for all.
type Driver interface {
	// Kind is the TEE of its instances.
	Kind() tee.Kind
	// Probe says what this host offers, by trying it, within a few seconds.
	Probe(ctx context.Context) Capability
	// Expect computes, offline and before anything starts, what the evidence of an
	// instance of this kind will say of its code.
	Expect(spec Spec) (Expectation, error)
	// Compare says what of evidence is not as expected, each with what it is of. It
	// believes the evidence: it explains a refusal, and is none.
	Compare(e Expectation, ev tee.Evidence) []tee.Failure
	// Boot starts an instance. It runs in the shim, once.
	Boot(ctx context.Context, b Boot) (Machine, error)
}

// Expectation is what the evidence of an instance will say, computed before it
// starts.
type Expectation struct {
	Measurement tee.Measurement `json:"measurement"`
	// Registers are what the measurement is over where it is over several: their
	// values in hex, by their index.
	Registers map[string]string `json:"registers,omitempty"`
	// Simulated says that the TEE is none: evidence will say so too.
	Simulated bool `json:"simulated,omitempty"`
	// Size is what the instance takes of the host.
	Size Size `json:"size"`
}

// Boot is what a driver gets to start an instance.
type Boot struct {
	ID       string
	Dir      Dir
	Document []byte // canonical launch document
	Spec     Spec
	Output   *os.File // what the instance prints before its channel is up
	// Lock must stay open in the instance's first process: it tells everyone
	// that the instance still runs, even when its shim is gone.
	Lock *os.File
}

// Machine is a started instance.
type Machine interface {
	// Channel is the byte stream to the agent inside (package compute/link).
	Channel() io.ReadWriteCloser
	// Done is closed when nothing of the instance runs any more.
	Done() <-chan struct{}
	// Node is what the instance is told of its node; the zero value where its TEE
	// tells it.
	Node() Node
	// Kill ends it at once and waits until it is gone.
	Kill()
	// Postmortem explains the end, after Done: a reason code and a sentence, or
	// empty strings when it has nothing to say.
	Postmortem() (code, message string)
}

// Node says which node an instance is to take its secrets from.
type Node struct {
	Root    []byte // certificate (DER) that the node's evidence leads to
	Runtime []byte // digest of what it runs
}

// Capability is what a host offers of one TEE.
type Capability struct {
	TEE       tee.Kind `json:"tee"`
	Available bool     `json:"available"`
	Simulated bool     `json:"simulated"`
	// Detail says in one sentence what was tried and what came out.
	Detail string `json:"detail"`
	// Walls and Missing list the layers of isolation, for the software TEE.
	Walls   []string `json:"walls,omitempty"`
	Missing []string `json:"missing_walls,omitempty"`
	Hint    string   `json:"hint,omitempty"`
}
