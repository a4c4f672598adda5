//go:build linux

package software

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/sealing"
)

// The scopes of a counter, and of sealing keys.
const (
	scopeMeasurement = "measurement"
	scopeSigner      = "signer"
)

// counterOwner is whose counter it is; its digest is the owner's name on disk.
type counterOwner struct {
	_       struct{} `cbor:",toarray"`
	Domain  string
	Scope   string
	ID      []byte // measurement, or SHA-256 of the signer's key
	Product uint32
	Debug   bool
}

// instanceCounters are an instance's counters of one scope.
type instanceCounters struct {
	in    *Instance
	scope string
}

func (c instanceCounters) ReadCounter(_ context.Context, name string) (uint64, [32]byte, error) {
	k, err := c.key(counterOp("read", name), name)
	if err != nil {
		return 0, [32]byte{}, err
	}
	v, err := c.in.p.counters.read(k)
	return v.value, v.digest, err
}

func (c instanceCounters) AdvanceCounter(_ context.Context, name string, from uint64, digest [32]byte) error {
	k, err := c.key(counterOp("advance", name), name)
	if err != nil {
		return err
	}
	return c.in.p.counters.advance(k, from, digest)
}

// key finds the counter's owner from what the platform measured, never from
// what the instance says.
func (c instanceCounters) key(op, name string) (counterKey, error) {
	if err := c.in.alive(op); err != nil {
		return counterKey{}, err
	}
	if err := validName("counter name", name, MaxCounterName); err != nil {
		return counterKey{}, &tee.Error{Code: tee.CodeParse, Op: op, Err: err}
	}
	owner := counterOwner{Domain: "cloister software TEE counter owner v1", Scope: c.scope, Debug: c.in.doc.Debug}
	switch {
	case c.scope == scopeMeasurement:
		owner.ID = c.in.info.Measurement
	case c.scope == scopeSigner && len(c.in.doc.Signer) > 0:
		owner.ID, owner.Product = c.in.doc.Signer, c.in.doc.Product
	case c.scope == scopeSigner:
		return counterKey{}, &tee.Error{Code: tee.CodeSealPolicy, Op: op, Err: sealing.ErrUnsigned}
	default:
		return counterKey{}, &tee.Error{Code: tee.CodeParse, Op: op, Err: errors.New("unknown scope")}
	}
	b, err := encode(owner)
	if err != nil {
		return counterKey{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	return counterKey{sha256.Sum256(b), name}, nil
}
