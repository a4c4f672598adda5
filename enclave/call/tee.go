package call

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// TEE is what an agent asks for its program.
type TEE interface {
	tee.Attester
	tee.Sealer
	tee.Counters // of the measurement
	// SignerCounters are those of the program's signer and product.
	SignerCounters() tee.Counters
}

// FromTEE answers a request that concerns the TEE alone: evidence in the
// program's own context, sealing keys and counters. It refuses every other one.
func FromTEE(ctx context.Context, t TEE, r Request) (Answer, error) {
	switch r.Op {
	case Evidence:
		ev, err := t.Evidence(ctx, tee.Bind(ProgramContext, r.Data))
		return Answer{Evidence: &ev}, err
	case SealingKey:
		key, err := t.SealingKey(ctx, tee.SealPolicy{To: r.Name, SVN: uint32(r.Number)}, r.Data)
		return Answer{Data: key}, err
	case CounterRead:
		c, err := countersOf(t, r.To)
		if err != nil {
			return Answer{}, err
		}
		value, digest, err := c.ReadCounter(ctx, r.Name)
		return Answer{Number: value, Data: digest[:]}, err
	case CounterAdvance:
		c, err := countersOf(t, r.To)
		if err != nil {
			return Answer{}, err
		}
		if len(r.Data) != 32 {
			return Answer{}, fmt.Errorf("counter digest is %d bytes, want 32", len(r.Data))
		}
		return Answer{}, c.AdvanceCounter(ctx, r.Name, r.Number, [32]byte(r.Data))
	default:
		return Answer{}, fmt.Errorf("unknown request %q", r.Op)
	}
}

func countersOf(t TEE, to string) (tee.Counters, error) {
	switch to {
	case tee.SealToMeasurement().To:
		return t, nil
	case tee.SealToSigner(0).To:
		return t.SignerCounters(), nil
	}
	return nil, errors.New("the request does not say whose counter it means")
}

// Result is the answer that a request leads to: got, or the reason of err.
func Result(got Answer, err error) Answer {
	if err == nil {
		return got
	}
	out := Answer{Code: tee.CodeUnavailable, Message: err.Error()}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		out.Code, out.Hint = e.Code, e.Hint
	}
	return out
}
