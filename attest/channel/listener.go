package channel

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/cloister-cc/cloister/attest"
)

// maxPending bounds the connections that are being established at one time.
const maxPending = 256

// Listener hands out connections on which the evidence that their protocol asks
// for has been exchanged: *Conn where [Protocol] was negotiated, *tls.Conn for
// plain HTTPS. A slow or hostile client holds up nobody else.
type Listener struct {
	inner  net.Listener
	config *tls.Config
	cfg    Config
	ready  chan net.Conn
	failed func(net.Addr, error)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	err    error // why the inner listener ended
}

// NewListener accepts connections from inner. failed, which may be nil, is told
// about clients that did not establish a channel; it must not block.
func NewListener(inner net.Listener, config *tls.Config, cfg Config, failed func(net.Addr, error)) *Listener {
	if failed == nil {
		failed = func(net.Addr, error) {}
	}
	l := &Listener{inner: inner, config: config, cfg: cfg, ready: make(chan net.Conn), failed: failed}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(l.loop)
	return l
}

func (l *Listener) loop() {
	defer l.cancel()
	slots := make(chan struct{}, maxPending)
	for {
		conn, err := l.inner.Accept()
		if err != nil {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			return
		}
		select {
		case slots <- struct{}{}:
		case <-l.ctx.Done():
			_ = conn.Close()
			return
		}
		l.wg.Go(func() {
			defer func() { <-slots }()
			c, err := l.establish(conn)
			if err != nil {
				l.failed(conn.RemoteAddr(), err)
				return
			}
			select {
			case l.ready <- c:
			case <-l.ctx.Done():
				_ = c.Close()
			}
		})
	}
}

// establish shakes hands, then exchanges evidence or passes plain HTTPS on.
func (l *Listener) establish(conn net.Conn) (net.Conn, error) {
	t := tls.Server(conn, l.config)
	plain := false
	c, err := establish(l.ctx, t, l.cfg, func(ctx context.Context) (*attest.Verified, error) {
		if plain = t.ConnectionState().NegotiatedProtocol != Protocol; plain {
			return nil, nil
		}
		s, err := sessionOf(t.ConnectionState(), l.config.Certificates[0].Certificate[0], false)
		if err != nil {
			return nil, err
		}
		return serverExchange(ctx, t, s, l.cfg)
	})
	switch {
	case err != nil:
		return nil, err
	case plain:
		return t, nil
	default:
		return c, nil
	}
}

// Accept returns the next established connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err != nil {
			return nil, l.err
		}
		return nil, net.ErrClosed
	}
}

// Close stops listening and waits for what is being established.
func (l *Listener) Close() error {
	l.cancel()
	err := l.inner.Close()
	l.wg.Wait()
	return err
}

// Addr returns the address of the inner listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

type contextKey struct{}

// ConnContext is for http.Server: it lets handlers see their connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *Conn:
		return context.WithValue(ctx, contextKey{}, c)
	case *tls.Conn:
		return context.WithValue(ctx, contextKey{}, &Conn{Conn: c})
	default:
		return ctx
	}
}

// FromContext returns the connection of a request, or nil outside [ConnContext].
// On plain HTTPS nothing was proven about the peer; its ClientIdentity is still
// that of its certificate.
func FromContext(ctx context.Context) *Conn {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	return c
}
