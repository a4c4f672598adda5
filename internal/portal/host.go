package portal

import (
	"context"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
)

// Host is what the portal needs of the host that it is part of. Its methods are
// called from many goroutines.
type Host interface {
	// Platform describes the platform.
	Platform() Platform
	// Kinds are the TEEs that this host starts instances in, the default first.
	Kinds() []tee.Kind
	// Capabilities says what this machine offers, by trying it, which takes seconds.
	Capabilities(ctx context.Context) []compute.Capability

	// Instances returns all instances by name, Instance one of them; the error
	// wraps compute.ErrNotFound when there is none of that name.
	Instances() []compute.Instance
	Instance(name string) (compute.Instance, error)
	// Watch reports each instance now and after each change of its status, and when
	// it is gone, until ctx ends.
	Watch(ctx context.Context, changed func(compute.Instance), gone func(name string))

	// Create, Start, Stop and Delete are those of compute.Supervisor.
	Create(ctx context.Context, c compute.Create) (compute.Instance, error)
	Start(name string) error
	Stop(name string) error
	Delete(name string) error

	// Log returns the end of what an instance's program printed.
	Log(name string) (Log, error)
	// Evidence asks a running instance for evidence over a nonce, and returns the
	// report data that it must carry.
	Evidence(ctx context.Context, name string, nonce []byte) (tee.Evidence, [64]byte, error)
	// Trust returns the roots and endorsements that this host verifies evidence
	// with, without a time.
	Trust(ctx context.Context, ev tee.Evidence) tee.Input
}

// Platform is what the pages say of the platform as a whole.
type Platform struct {
	Version         string
	Address         string // of the node's HTTPS face
	NodeMeasurement tee.Measurement
	Simulated       bool
	DataDir         string
	RootFile        string // of the development root
	PID             int
}

// Log is the end of a console log.
type Log struct {
	Lines []LogLine
	// Cut says that older lines were left out.
	Cut bool
}

// LogLine is one piece of what a program printed. All of it is untrusted.
type LogLine struct {
	Time   time.Time
	Stream string
	Text   string
}
