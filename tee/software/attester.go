//go:build linux

package software

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"golang.org/x/sys/unix"
)

// Device is the TEE as code inside an instance sees it. It is safe for
// concurrent use; calls are carried out one after the other. All errors are
// *tee.Error; once the platform is gone every call gives CodeUnavailable.
type Device struct {
	f    *os.File
	info Info
	turn chan struct{} // holds one token: whose call is on the wire

	mu     sync.Mutex
	closed bool           // f is closed: by Close, or because the stream broke
	wg     sync.WaitGroup // calls under way; grows under mu while not closed
}

// OpenDevice takes over f, a device from [Client.Launch] or [Instance.Device],
// and asks it for its [Info]. f is closed in any case; close the Device instead.
// It needs no system calls beyond read, write, fcntl, epoll and close, so it
// works inside the sandbox.
func OpenDevice(f *os.File) (*Device, error) {
	const op = "open TEE device"
	own, err := takeOver(f)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	d := &Device{f: own, turn: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a, err := request[infoAnswer](ctx, d, op, opInfo, nothing{})
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	d.info = a.info()
	return d, nil
}

// takeOver returns a file for f's descriptor that can be interrupted (it is in
// non-blocking mode and known to the poller), and closes f.
func takeOver(f *os.File) (*os.File, error) {
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	own := -1
	var dupErr error
	if err := raw.Control(func(fd uintptr) {
		if own, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); dupErr == nil {
			dupErr = unix.SetNonblock(own, true)
		}
	}); err != nil {
		return nil, err
	}
	if dupErr != nil {
		if own >= 0 {
			unix.Close(own)
		}
		return nil, fmt.Errorf("take over descriptor: %w", dupErr)
	}
	return os.NewFile(uintptr(own), "tee-device"), nil
}

// Close gives the device back; the platform then ends the instance. Calls under
// way fail with CodeUnavailable.
func (d *Device) Close() error {
	err := d.shut()
	d.wg.Wait()
	return err
}

// shut closes the file once.
func (d *Device) shut() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.f.Close()
}

// spawn runs f in a goroutine that Close waits for, or refuses after Close.
func (d *Device) spawn(f func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	d.wg.Go(f)
	return nil
}

// Info says which launch this is and which certificates its evidence chains to.
func (d *Device) Info() Info { return d.info }

// Kind is tee.Software.
func (d *Device) Kind() tee.Kind { return tee.Software }

// SetSandbox records the walls of the sandbox; see [Instance.SetSandbox].
func (d *Device) SetSandbox(ctx context.Context, walls, missing []string) error {
	_, err := request[nothing](ctx, d, "set sandbox of instance", opSetSandbox, sandboxCall{walls, missing})
	return err
}

// Evidence returns evidence that carries reportData, with the platform
// certificate.
func (d *Device) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	a, err := request[evidenceAnswer](ctx, d, "produce evidence", opEvidence, evidenceCall{reportData})
	if err != nil {
		return tee.Evidence{}, err
	}
	return tee.Evidence{Kind: tee.Software, Data: a.Data, Certificates: [][]byte{d.info.PlatformCertificate}}, nil
}

// SealingKey returns the 32-byte sealing key; see [Instance.SealingKey].
func (d *Device) SealingKey(ctx context.Context, policy tee.SealPolicy, context []byte) ([]byte, error) {
	a, err := request[sealingKeyAnswer](ctx, d, "derive sealing key", opSealingKey, sealingKeyCall{policy.To, policy.SVN, context})
	if err != nil {
		return nil, err
	}
	return a.Key[:], nil
}

// ReadCounter returns a counter of this measurement.
func (d *Device) ReadCounter(ctx context.Context, name string) (uint64, [32]byte, error) {
	return deviceCounters{d, scopeMeasurement}.ReadCounter(ctx, name)
}

// AdvanceCounter advances a counter of this measurement; see
// [Instance.AdvanceCounter]. A call that ctx ends early may still be carried
// out.
func (d *Device) AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error {
	return deviceCounters{d, scopeMeasurement}.AdvanceCounter(ctx, name, from, digest)
}

// SignerCounters returns the counters that all versions of this signer's
// product share; see [Instance.SignerCounters].
func (d *Device) SignerCounters() tee.Counters { return deviceCounters{d, scopeSigner} }

// deviceCounters are the counters of one scope, by way of the device.
type deviceCounters struct {
	d     *Device
	scope string
}

func (c deviceCounters) ReadCounter(ctx context.Context, name string) (uint64, [32]byte, error) {
	a, err := request[readAnswer](ctx, c.d, counterOp("read", name), opRead, readCall{c.scope, name})
	return a.Value, a.Digest, err
}

func (c deviceCounters) AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error {
	_, err := request[nothing](ctx, c.d, counterOp("advance", name), opAdvance, advanceCall{c.scope, name, from, digest})
	return err
}

// request makes one call on the device. When ctx ends first, the call goes on
// in the background, so that the stream stays in step for the next caller.
func request[T any](ctx context.Context, d *Device, what, op string, body any) (T, error) {
	var none T
	fail := func(err error) (T, error) {
		return none, &tee.Error{Code: tee.CodeUnavailable, Op: what, Err: err}
	}
	call, err := encodeCall(op, body)
	if err != nil {
		return fail(err)
	}
	if len(call) > maxFrame {
		return none, &tee.Error{Code: tee.CodeParse, Op: what, Err: fmt.Errorf("call of %d bytes, at most %d", len(call), maxFrame)}
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	type reply struct {
		body []byte
		err  error
	}
	done := make(chan reply, 1)
	if err := d.spawn(func() {
		defer func() { <-d.turn }()
		b, err := d.exchange(call)
		done <- reply{b, err}
	}); err != nil {
		<-d.turn
		return none, goneCause(what, err)
	}
	select {
	case r := <-done:
		if r.err != nil {
			return none, goneCause(what, r.err)
		}
		defer clear(r.body)
		return decodeAnswer[T](r.body, what)
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

// exchange writes one call and reads its answer. After an error the stream is
// out of step, so the file is closed.
func (d *Device) exchange(call []byte) ([]byte, error) {
	err := writeFrame(d.f, call)
	if err == nil {
		var b []byte
		if b, err = readFrame(d.f); err == nil {
			return b, nil
		}
	}
	return nil, errors.Join(err, d.shut())
}

// goneCause is [goneError] with the cause.
func goneCause(op string, cause error) error {
	return &tee.Error{
		Code: tee.CodeUnavailable, Op: op, Err: fmt.Errorf("the software TEE platform is gone or ended this instance: %w", cause),
		Hint: goneHint,
	}
}

// Interface guards.
var (
	_ tee.Attester = (*Device)(nil)
	_ tee.Sealer   = (*Device)(nil)
	_ tee.Counters = (*Device)(nil)
)
