package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
)

// serve runs an HTTP server that says what it knows about its client.
func serve(t *testing.T, cfg Config, failed func(net.Addr, error)) (l *Listener, cert *tls.Certificate) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert = newCertificate(t)
	l = NewListener(inner, ServerTLS(*cert), cfg, failed)
	server := &http.Server{ConnContext: ConnContext, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := FromContext(r.Context())
		instance := "nothing"
		if v := c.PeerVerified(); v != nil {
			instance = v.Claims.InstanceID
		}
		fmt.Fprintf(w, "proven %s identity %x", instance, c.ClientIdentity())
	})}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return l, cert
}

// get makes one request over connections that dial opens.
func get(t *testing.T, address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (string, error) {
	t.Helper()
	transport := &http.Transport{DialTLSContext: dial}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func attestedDial(cert *tls.Certificate, cfg Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return Client(ctx, conn, cert, cfg)
	}
}

func plainDial(cert *tls.Certificate) func(context.Context, string, string) (net.Conn, error) {
	cfg := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return (&tls.Dialer{Config: cfg}).DialContext
}

func TestListenerServesBothKinds(t *testing.T) {
	node, agent := attesttest.New(tee.Claims{}), attesttest.New(tee.Claims{InstanceID: "agent"})
	l, _ := serve(t, Config{Attester: node, Appraise: accepting(t, agent)}, func(_ net.Addr, err error) { t.Error(err) })
	own := newCertificate(t)
	identity := fmt.Sprintf("%x", Identity(must(tlsLeaf(own))))
	attested := Config{Attester: agent, Appraise: accepting(t, node)}
	for name, c := range map[string]struct {
		dial func(context.Context, string, string) (net.Conn, error)
		want string
	}{
		"attested":                   {attestedDial(nil, attested), "proven agent identity "},
		"attested, with an identity": {attestedDial(own, attested), "proven agent identity " + identity},
		"plain":                      {plainDial(nil), "proven nothing identity "},
		"plain, with an identity":    {plainDial(own), "proven nothing identity " + identity},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := get(t, l.Addr().String(), c.dial)
			if err != nil || got != c.want {
				t.Errorf("got %q %v, want %q", got, err, c.want)
			}
		})
	}
}

// Outside ConnContext, and on connections that are not TLS, nothing is known.
func TestFromContext(t *testing.T) {
	a, _ := pipe(t)
	if FromContext(t.Context()) != nil || FromContext(ConnContext(t.Context(), a)) != nil {
		t.Error("a channel out of nothing")
	}
}

// Clients that stop half way hold up neither others nor the end.
func TestSlowClientsBlockNobody(t *testing.T) {
	node := attesttest.New(tee.Claims{})
	var mu sync.Mutex
	var failures []error
	l, _ := serve(t, Config{Attester: node, Timeout: time.Hour}, func(_ net.Addr, err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, err)
	})
	address := l.Addr().String()
	slow := must(net.Dial("tcp", address))
	defer slow.Close()
	slower := must(tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}}))
	defer slower.Close()
	if got, err := get(t, address, attestedDial(nil, Config{Appraise: accepting(t, node)})); err != nil || got != "proven nothing identity " {
		t.Errorf("got %q, %v", got, err)
	}
	if err := l.Close(); err != nil { // long before the hour is over
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(failures) != 2 {
		t.Errorf("%d failures, want those of the two slow clients", len(failures))
	}
	for _, err := range failures {
		wantBroken(t, err)
	}
}

func TestListenerManyClients(t *testing.T) {
	node := attesttest.New(tee.Claims{})
	l, _ := serve(t, Config{Attester: node}, nil)
	dial := attestedDial(nil, Config{Appraise: accepting(t, node)})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got, err := get(t, l.Addr().String(), dial); err != nil || got != "proven nothing identity " {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
}

// A client that is refused does not become a connection.
func TestListenerTellsOfRefusals(t *testing.T) {
	node, agent, stranger := attesttest.New(tee.Claims{}), attesttest.New(tee.Claims{}), attesttest.New(tee.Claims{})
	failed := make(chan error, 1)
	l, _ := serve(t, Config{Attester: node, Appraise: accepting(t, agent)}, func(_ net.Addr, err error) { failed <- err })
	_, err := get(t, l.Addr().String(), attestedDial(nil, Config{Attester: stranger, Appraise: accepting(t, node)}))
	wantRefused(t, err, "peer_refused", tee.CodeChain)
	wantRefused(t, <-failed, tee.CodeChain)
}

// failing is a listener whose socket breaks.
type failing struct{ net.Listener }

var errSocket = errors.New("socket is gone")

func (failing) Accept() (net.Conn, error) { return nil, errSocket }

func TestAcceptSaysWhyItEnded(t *testing.T) {
	cert := newCertificate(t)
	inner := must(net.Listen("tcp", "127.0.0.1:0"))
	l := NewListener(failing{inner}, ServerTLS(*cert), Config{}, nil)
	if _, err := l.Accept(); !errors.Is(err, errSocket) {
		t.Errorf("got %v, want the socket's error", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	inner = must(net.Listen("tcp", "127.0.0.1:0"))
	l = NewListener(inner, ServerTLS(*cert), Config{}, nil)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}
