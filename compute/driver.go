package compute

import (
	"context"
	"io"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Driver starts instances of one TEE. The life cycle around it (intent, shim,
// logs, restart) is the same for all.
type Driver interface {
	// Kind is the TEE of its instances.
	Kind() tee.Kind
	// Probe says what this host offers, by trying it, within a few seconds.
	Probe(ctx context.Context) Capability
	// Expect computes, offline and before anything starts, the measurement that
	// the evidence of an instance with this launch document will carry.
	Expect(doc launch.Document) (tee.Measurement, error)
	// Boot starts an instance. It runs in the shim, once.
	Boot(ctx context.Context, b Boot) (Machine, error)
}

// Boot is what a driver gets to start an instance.
type Boot struct {
	ID        string
	Dir       Dir
	Document  []byte // canonical launch document
	Signature []byte
	Launch    launch.Document
	Output    *os.File // what the instance prints before its channel is up
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
	// Kill ends it at once and waits until it is gone.
	Kill()
	// Postmortem explains the end, after Done: a reason code and a sentence, or
	// empty strings when it has nothing to say.
	Postmortem() (code, message string)
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
