//go:build linux

package software

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
)

const (
	maxLaunching  = 32               // launch calls at one time; others wait
	launchTimeout = 60 * time.Second // for one call, with its image
)

// Serve answers launch calls on l until ctx is done or the platform is closed,
// or l is closed; then it closes l, waits for the calls under way and returns
// nil. It returns an error only when l breaks. Peers of another user are turned away. Devices that
// were handed out live on until Close.
func (p *Platform) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	calls.Go(func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	})
	slots := make(chan struct{}, maxLaunching)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = c.Close()
			}
			return nil
		case isTemporary(err):
			<-slots
			if !pause(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		case err != nil:
			return &tee.Error{Code: tee.CodeUnavailable, Op: "accept launch calls", Err: err}
		}
		calls.Go(func() {
			defer func() { <-slots }()
			p.serveConn(ctx, c)
		})
	}
}

// isTemporary reports whether accepting can work again later: descriptors ran
// out, or the peer was gone already.
func isTemporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serveConn answers the one call of a connection.
func (p *Platform) serveConn(ctx context.Context, c *net.UnixConn) {
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := unixsock.SamePeer(c); err != nil {
		p.logger.WarnContext(ctx, "peer turned away", slog.Any("error", err))
		return
	}
	body, image, err := receiveFile(c, maxLaunchFrame)
	if err != nil {
		p.logger.WarnContext(ctx, "launch call not readable", slog.Any("error", err))
		return
	}
	if image != nil {
		defer image.Close()
	}
	received, sent := p.record("launch")
	_, _ = received.Write(body)
	result, device, err := p.answerCall(ctx, body, image)
	if err != nil {
		p.logger.WarnContext(ctx, "launch call refused", slog.Any("error", err))
	}
	if device != nil {
		// Our copy of the child's end. When sending fails this was the only one,
		// and the instance ends.
		defer device.Close()
	}
	reply, err := encodeAnswer(result, err)
	if err == nil {
		_, _ = sent.Write(reply)
		err = sendFile(c, reply, device)
	}
	if err != nil {
		p.logger.WarnContext(ctx, "launch call not answered", slog.Any("error", err))
	}
}

func (p *Platform) answerCall(ctx context.Context, body []byte, image *os.File) (any, *os.File, error) {
	req, err := decode[call](body, maxLaunchFrame)
	if err != nil {
		return nil, nil, callError(err)
	}
	switch req.Op {
	case opPlatform:
		if _, err := decode[nothing](req.Body, maxFrame); err != nil {
			return nil, nil, callError(err)
		}
		i := p.Info()
		return platformAnswer{i.RuntimeDigest, i.RootCertificate, i.PlatformCertificate}, nil, nil
	case opLaunch:
		l, err := decode[launchCall](req.Body, maxLaunchFrame)
		if err != nil {
			return nil, nil, callError(err)
		}
		in, err := p.Launch(ctx, LaunchRequest{Document: l.Document, Signature: l.Signature, Image: image, InstanceID: l.InstanceID})
		if err != nil {
			return nil, nil, err
		}
		device, err := in.Device()
		if err != nil {
			return nil, nil, errors.Join(err, in.Close())
		}
		return infoAnswerOf(in.Info()), device, nil
	case opCertify:
		c, err := decode[certifyCall](req.Body, maxFrame)
		if err != nil {
			return nil, nil, callError(err)
		}
		certificate, err := p.CertifyTPM(c.Key)
		return certifyAnswer{certificate}, nil, err
	default:
		return nil, nil, callError(errors.New("unknown operation"))
	}
}

// callError is the refusal of a call that does not parse.
func callError(err error) error {
	return &tee.Error{Code: tee.CodeParse, Op: "parse call", Err: err}
}

// encodeAnswer encodes a result, or the failure when err is not nil.
func encodeAnswer(result any, err error) ([]byte, error) {
	if err != nil {
		result = nothing{}
	}
	body, encErr := encode(result)
	if encErr != nil {
		return nil, encErr
	}
	a := answer{Body: body}
	if err != nil {
		a.Failure = failureOf(err)
	}
	return encode(a)
}
