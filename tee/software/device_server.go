//go:build linux

package software

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"golang.org/x/sys/unix"
)

// Device returns the TEE device of the instance: one end of a new stream socket
// pair, to be handed to the sandboxed child, where [OpenDevice] speaks its
// protocol. The platform serves the other end until every copy of the file is
// closed; then the instance is closed too, so close the parent's copy once the
// child has its own. An instance has one device: a second call is refused with
// CodeUnsupported.
func (in *Instance) Device() (*os.File, error) {
	const op = "make TEE device"
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: os.NewSyscallError("socketpair", err)}
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "tee-device-platform"), os.NewFile(uintptr(fds[1]), "tee-device")
	if err := in.attach(op, ours); err != nil {
		return nil, errors.Join(err, ours.Close(), theirs.Close())
	}
	if err := in.p.spawn(func() { in.serve(ours) }); err != nil {
		return nil, errors.Join(goneError(op), in.Close(), theirs.Close())
	}
	return theirs, nil
}

func (in *Instance) attach(op string, ours *os.File) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return goneError(op)
	}
	if in.hasDevice {
		return &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: errors.New("the instance has its device already")}
	}
	in.device, in.hasDevice = ours, true
	return nil
}

// serve answers the calls of one device, in order, until it is closed. Bytes
// that are not a call end the device: after them the stream means nothing.
func (in *Instance) serve(f *os.File) {
	ctx := context.Background()
	log := in.p.logger.With(slog.String("instance", in.info.InstanceID))
	defer func() { _ = in.Close() }()
	received, sent := in.p.record("device")
	for {
		body, err := readFrame(f)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				log.WarnContext(ctx, "device closed", slog.Any("error", err))
			}
			return
		}
		_, _ = received.Write(body)
		result, err := in.answer(ctx, body)
		if err != nil {
			log.InfoContext(ctx, "device call refused", slog.Any("error", err))
		}
		reply, err := encodeAnswer(result, err)
		if err == nil {
			_, _ = sent.Write(reply)
			err = writeFrame(f, reply)
			clear(reply)
		}
		if err != nil {
			log.WarnContext(ctx, "device call not answered", slog.Any("error", err))
			return
		}
	}
}

// answer carries out one device call.
func (in *Instance) answer(ctx context.Context, body []byte) (any, error) {
	req, err := decode[call](body, maxFrame)
	if err != nil {
		return nil, callError(err)
	}
	switch req.Op {
	case opInfo:
		return handle(req, func(nothing) (any, error) { return infoAnswerOf(in.info), nil })
	case opEvidence:
		return handle(req, func(c evidenceCall) (any, error) {
			ev, err := in.Evidence(ctx, c.ReportData)
			return evidenceAnswer{ev.Data}, err
		})
	case opSealingKey:
		return handle(req, func(c sealingKeyCall) (any, error) {
			key, err := in.SealingKey(ctx, tee.SealPolicy{To: c.To, SVN: c.SVN}, c.Context)
			if err != nil {
				return nil, err
			}
			return sealingKeyAnswer{[32]byte(key)}, nil
		})
	case opRead:
		return handle(req, func(c readCall) (any, error) {
			value, digest, err := in.counters(c.Scope).ReadCounter(ctx, c.Name)
			return readAnswer{value, digest}, err
		})
	case opAdvance:
		return handle(req, func(c advanceCall) (any, error) {
			return nothing{}, in.counters(c.Scope).AdvanceCounter(ctx, c.Name, c.From, c.Digest)
		})
	case opSetSandbox:
		return handle(req, func(c sandboxCall) (any, error) {
			return nothing{}, in.SetSandbox(ctx, c.Walls, c.Missing)
		})
	default:
		return nil, callError(fmt.Errorf("unknown operation of %d bytes", len(req.Op)))
	}
}

// handle decodes the body of a call and carries it out.
func handle[T any](req call, do func(T) (any, error)) (any, error) {
	body, err := decode[T](req.Body, maxFrame)
	if err != nil {
		return nil, callError(err)
	}
	return do(body)
}
