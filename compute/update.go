package compute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-cc/cloister/tee/launch"
)

// Update is a request to replace what an instance runs.
type Update struct {
	Spec   Spec
	Image  io.Reader
	Inputs map[string]io.Reader // by name; every input of the launch document
	// DiscardState gives up what the instance has kept, its TPM included; without it an
	// update that could not open it is refused.
	DiscardState bool
}

// ErrLineage means that what an instance has kept would not be for the new version: it
// is not a later one of the same signer's product. Sign it, or discard the state.
var ErrLineage = errors.New("not a later version of the same product by the same signer: what the instance keeps would be lost to it")

// CheckLineage refuses a launch that is neither the same as another, whatever file it
// was read from, nor a later version of the same signer's product: sealing keys of one
// are not those of the other.
func CheckLineage(before, after launch.Document) error {
	same, err1 := before.Digest()
	now, err2 := after.Digest()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	switch {
	case same == now:
		return nil
	case before.Debug != after.Debug:
		return fmt.Errorf("%w: debug is another", ErrLineage)
	case len(before.Signer) == 0 || len(after.Signer) == 0:
		return fmt.Errorf("%w: it is not signed", ErrLineage)
	case !bytes.Equal(before.Signer, after.Signer):
		return fmt.Errorf("%w: another signer", ErrLineage)
	case before.Product != after.Product:
		return fmt.Errorf("%w: product %d, not %d", ErrLineage, after.Product, before.Product)
	case after.SVN < before.SVN:
		return fmt.Errorf("%w: security version %d is below %d", ErrLineage, after.SVN, before.SVN)
	}
	return nil
}

// Update replaces what the instance called name runs, and starts it again if it ran.
// It is refused before anything changes ([ErrRefused], [ErrLineage], [ErrQuota]); after a
// failure the instance is what it was, stopped. Its name, id and state stay.
func (s *Supervisor) Update(ctx context.Context, name string, u Update) (Instance, error) {
	c := Create{Name: name, Spec: u.Spec, Image: u.Image, Inputs: u.Inputs}
	driver, err := s.admit(c)
	if err != nil {
		return Instance{}, err
	}
	expected, err := driver.Expect(c.Spec)
	if err != nil {
		return Instance{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	k, err := s.find(name)
	if err != nil {
		return Instance{}, err
	}
	if err := s.admitUpdate(k, u, expected); err != nil {
		return Instance{}, err
	}
	// The new image is there before the old one is given up: they have other names.
	if err := k.dir.storeImage(u.Image, u.Spec.Launch.Image.Digest); err != nil {
		return Instance{}, err
	}
	ran, err := k.halt(ctx)
	if err != nil {
		return k.instance(), err
	}
	return k.instance(), k.replace(u, expected, ran)
}

// admitUpdate refuses an update before anything is changed.
func (s *Supervisor) admitUpdate(k *keeper, u Update, expected Expectation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := k.instance().Spec
	if before.TEE != u.Spec.TEE && !u.DiscardState {
		return fmt.Errorf("%w: another TEE", ErrLineage)
	}
	if !u.DiscardState {
		if err := CheckLineage(before.Launch, u.Spec.Launch); err != nil {
			return err
		}
	}
	return s.admitTo(u.Spec.project(), expected.Size, k)
}

// halt stops the instance and waits until nothing of it runs. ran says whether it was
// meant to run.
func (k *keeper) halt(ctx context.Context) (ran bool, err error) {
	k.mu.Lock()
	ran = k.intent.Want == WantRunning
	k.mu.Unlock()
	if err := k.want(WantStopped); err != nil {
		return ran, err
	}
	waitUnlocked(ctx, k.dir)
	return ran, ctx.Err()
}

// replace commits a new spec, and gives up what belonged to the old one.
func (k *keeper) replace(u Update, expected Expectation, start bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.intent.Want != WantStopped || Locked(k.dir.Lock()) {
		return fmt.Errorf("%w: somebody else has started or deleted it", ErrState)
	}
	for _, name := range u.Spec.Launch.Inputs {
		if err := StoreFile(k.dir.Input(name), u.Inputs[name], MaxInput); err != nil {
			return err
		}
	}
	if u.DiscardState {
		if err := k.dir.discardState(); err != nil {
			return err
		}
	}
	next := k.intent
	next.Spec, next.Expected, next.ExpectedRegisters = u.Spec, expected.Measurement, expected.Registers
	next.Simulated, next.Size = expected.Simulated, expected.Size
	if start {
		next.Want = WantRunning
		next.Epoch++
	}
	if err := k.dir.WriteIntent(next); err != nil {
		return err
	}
	k.intent = next
	if start {
		k.status = Status{State: Pending, Since: k.status.Since, Epoch: next.Epoch}
	}
	k.announce()
	select {
	case k.wake <- struct{}{}:
	default:
	}
	k.dir.keepImage(u.Spec.Launch.Image.Digest)
	return nil
}
