//go:build linux

package software

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/sealing"
)

// wallsUnreported stands in missing_walls until the agent has said which walls
// stand, so that silence does not read as "nothing is missing".
const wallsUnreported = "unreported"

// Instance is the platform's handle of one launch. It implements
// tee.Attester, tee.Sealer and tee.Counters in the platform's own process; for
// another process, [Instance.Device] gives a file that does. It is safe for
// concurrent use.
type Instance struct {
	p    *Platform
	doc  launch.Document
	info Info

	mu             sync.Mutex
	closed         bool
	device         *os.File // the platform's end, while it is served
	hasDevice      bool
	frozen         bool // walls can no longer change
	walls, missing []string
}

// Info says which launch this is.
func (in *Instance) Info() Info { return in.info }

// Kind is tee.Software.
func (in *Instance) Kind() tee.Kind { return tee.Software }

// SetSandbox records which walls of the sandbox stand and which are missing,
// for the evidence. It can be called once and only before the first evidence
// (CodeUnsupported afterwards); an instance that never calls it has the missing
// wall "unreported". At most [MaxWalls] names of [MaxWall] bytes each.
func (in *Instance) SetSandbox(_ context.Context, walls, missing []string) error {
	const op = "set sandbox of instance"
	if err := errors.Join(validWalls("walls", walls), validWalls("missing walls", missing)); err != nil {
		return &tee.Error{Code: tee.CodeParse, Op: op, Err: err}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return goneError(op)
	}
	if in.frozen {
		return &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: errors.New("the sandbox was set before, or evidence was given")}
	}
	in.walls, in.missing, in.frozen = slices.Clone(walls), slices.Clone(missing), true
	return nil
}

// Evidence returns evidence that carries reportData; see [Verifier] for what it
// says. The platform certificate comes with it.
func (in *Instance) Evidence(_ context.Context, reportData [64]byte) (tee.Evidence, error) {
	const op = "produce evidence"
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return tee.Evidence{}, goneError(op)
	}
	in.frozen = true
	walls, missing := in.walls, in.missing
	in.mu.Unlock()
	c := claimsOf(in.doc, in.info, in.p.id, reportData)
	c.Walls, c.MissingWalls = walls, missing
	data, err := signEvidence(c, in.p.attestationKey(), in.info.PlatformCertificate)
	if err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	return tee.Evidence{Kind: tee.Software, Data: data, Certificates: [][]byte{in.info.PlatformCertificate}}, nil
}

// SealingKey returns the 32-byte key for the policy and context, which is at
// most [MaxSealContext] bytes. A debug launch gets other keys. It refuses with
// CodeSealPolicy a policy that names nothing, SealToSigner for an unsigned
// launch, and an SVN above the launch's own; a lower SVN gives the key of that
// older version, so that an update opens what its predecessor sealed.
func (in *Instance) SealingKey(_ context.Context, policy tee.SealPolicy, context []byte) ([]byte, error) {
	if err := in.alive("derive sealing key"); err != nil {
		return nil, err
	}
	l := sealing.Launch{Domain: "cloister software TEE sealing key v1", Document: in.doc, Measurement: in.info.Measurement}
	return sealing.Key(in.p.fuses.Secret, l, policy, context)
}

// ReadCounter returns a counter of this measurement.
func (in *Instance) ReadCounter(ctx context.Context, name string) (uint64, [32]byte, error) {
	return in.counters(scopeMeasurement).ReadCounter(ctx, name)
}

// AdvanceCounter advances a counter of this measurement. The counters belong to
// exactly this code and launch document; see [Instance.SignerCounters] for
// counters that outlive an update.
//
// After CodeUnavailable the counter stands at from or at from+1: read it again;
// the digest says which state it names.
func (in *Instance) AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error {
	return in.counters(scopeMeasurement).AdvanceCounter(ctx, name, from, digest)
}

// SignerCounters returns the counters that all launches of this signer and
// product share, whatever their SVN; unsigned launches get CodeSealPolicy. A
// debug launch has counters of its own. Since an older version may advance them
// too, they order states but do not say which version wrote one.
func (in *Instance) SignerCounters() tee.Counters { return in.counters(scopeSigner) }

func (in *Instance) counters(scope string) tee.Counters { return instanceCounters{in, scope} }

// Close ends the instance: its device, evidence and keys are gone. It may be
// called again.
func (in *Instance) Close() error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return nil
	}
	in.closed = true
	device := in.device
	in.mu.Unlock()
	in.p.forget(in)
	if device != nil {
		return device.Close()
	}
	return nil
}

// alive refuses after Close.
func (in *Instance) alive(op string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return goneError(op)
	}
	return nil
}

// goneHint says what to do about a TEE that is gone.
const goneHint = "treat it as a reset of the TEE: start the platform and the instance again"

func goneError(op string) error { return goneCause(op, os.ErrClosed) }

// Interface guards.
var (
	_ tee.Attester = (*Instance)(nil)
	_ tee.Sealer   = (*Instance)(nil)
	_ tee.Counters = (*Instance)(nil)
)
