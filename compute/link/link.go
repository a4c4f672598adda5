// Package link is the channel between an instance and its host: one byte
// stream (a socketpair, a virtio-serial port, vsock) carrying many streams.
// Each stream starts with a [Request] that says what it is for.
//
// # What it protects against
//
// Malformed, over-long and unknown requests from the other side: all are
// refused by one bounded parser (package internal/frame).
//
// # What it does not protect against
//
// The host is a pipe that may read, drop, reorder, replay or invent anything
// here. What must stay secret or intact runs attested TLS inside a stream; what
// the instance takes from the host in clear (the image, the launch document) it
// compares with its measurement.
package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Op says what a stream is for.
type Op string

// What an instance asks of its host.
const (
	OpLaunch Op = "launch" // what is to be launched: one frame with a [Launch]
	OpImage  Op = "image"  // the image, then end of stream
	OpInput  Op = "input"  // the input called Name, then end of stream
	OpOutput Op = "output" // the instance sends Size bytes of the output called Name; a second reply says they are stored
	OpEnv    Op = "env"    // the operator's values of environment variables, one frame
	OpDial   Op = "dial"   // a connection to the service called Name ("node")
	OpLog    Op = "log"    // the instance sends what its program prints
	OpEvents Op = "events" // the instance sends [Event] frames; a reply answers the last one
)

// What a host asks of its instance.
const (
	OpPort     Op = "port"     // a connection to the program's Port
	OpStop     Op = "stop"     // end the program, please
	OpEvidence Op = "evidence" // evidence over the report data in Data, one frame back
)

// MaxRequest is the largest request in bytes.
const MaxRequest = 4096

// Request opens a stream.
type Request struct {
	Op   Op     `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint,omitempty"`
	Port uint16 `cbor:"3,keyasint,omitempty"`
	Data []byte `cbor:"4,keyasint,omitempty"`
	Size int64  `cbor:"5,keyasint,omitempty"` // bytes that follow, for an output
}

// MaxLaunch is the largest [Launch] in bytes.
const MaxLaunch = launch.MaxDocument + launch.MaxSignature + 16<<10

// Launch is what the host says is to be launched. Nothing of it is true until the
// instance has compared it with what was measured, or has measured it.
type Launch struct {
	Document []byte `cbor:"1,keyasint"` // canonical
	// Signature is the image signature of a signed document.
	Signature  []byte `cbor:"2,keyasint,omitempty"`
	InstanceID string `cbor:"3,keyasint"`
	// NodeRoot (DER) and NodeRuntime say which node the instance takes its secrets
	// from, where the TEE does not say it: the root of its evidence, and the digest of
	// what it runs.
	NodeRoot    []byte `cbor:"4,keyasint,omitempty"`
	NodeRuntime []byte `cbor:"5,keyasint,omitempty"`
}

// Reply answers a request before any other byte; Error is empty for yes.
type Reply struct {
	Error string `cbor:"1,keyasint,omitempty"`
	Size  int64  `cbor:"2,keyasint,omitempty"` // bytes that follow, when known
}

// ErrRefused is wrapped when the other side refused a request.
var ErrRefused = errors.New("refused by the other side")

// Link is one side of the channel. It is safe for concurrent use.
type Link struct{ session *yamux.Session }

// New starts the channel on conn. Exactly one side is the host.
func New(conn io.ReadWriteCloser, host bool) (*Link, error) {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput = io.Discard
	cfg.EnableKeepAlive = false // both ends die with the byte stream
	cfg.ConnectionWriteTimeout = 30 * time.Second
	cfg.StreamOpenTimeout = 30 * time.Second
	open := yamux.Client
	if host {
		open = yamux.Server
	}
	s, err := open(conn, cfg)
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	return &Link{session: s}, nil
}

// Close ends all streams.
func (l *Link) Close() error { return l.session.Close() }

// Done is closed when the channel has ended.
func (l *Link) Done() <-chan struct{} { return l.session.CloseChan() }

// Open starts a stream and waits for the other side's reply.
func (l *Link) Open(r Request) (net.Conn, Reply, error) {
	s, err := l.session.Open()
	if err != nil {
		return nil, Reply{}, fmt.Errorf("open stream %s: %w", r.Op, err)
	}
	var reply Reply
	err = frame.Write(s, r)
	if err == nil {
		err = frame.Read(s, MaxRequest, &reply)
	}
	if err == nil && reply.Error != "" {
		err = fmt.Errorf("%w: %s", ErrRefused, reply.Error)
	}
	if err != nil {
		_ = s.Close()
		return nil, Reply{}, fmt.Errorf("open stream %s %s: %w", r.Op, r.Name, err)
	}
	return s, reply, nil
}

// Serve hands every stream that the other side opens to handle, each on its own
// goroutine, until the channel ends. A stream whose request does not parse is
// closed. handle must reply (see [Accept] and [Refuse]) and close the stream.
func (l *Link) Serve(handle func(Request, net.Conn)) {
	for {
		s, err := l.session.Accept()
		if err != nil {
			return
		}
		go func() {
			var r Request
			_ = s.SetReadDeadline(time.Now().Add(30 * time.Second))
			if err := frame.Read(s, MaxRequest, &r); err != nil {
				_ = s.Close()
				return
			}
			_ = s.SetReadDeadline(time.Time{})
			handle(r, s)
		}()
	}
}

// Accept says yes to a request; size may be 0 when it is not known.
func Accept(s io.Writer, size int64) error { return frame.Write(s, Reply{Size: size}) }

// Refuse says no with a reason that the other side may show, and closes.
func Refuse(s io.WriteCloser, reason string) {
	_ = frame.Write(s, Reply{Error: reason})
	_ = s.Close()
}
