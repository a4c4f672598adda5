//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stale is a TEE whose evidence is for something else than was asked.
type stale struct{ tee.Attester }

func (s stale) Evidence(ctx context.Context, _ [64]byte) (tee.Evidence, error) {
	return s.Attester.Evidence(ctx, [64]byte{1})
}

// A peer that has not proven what it is gets no byte of the request.
func TestNodeSaysNothingToStrangers(t *testing.T) {
	p, other := softwaretest.New(t), softwaretest.New(t)
	node := launch.NewBuiltin(launch.RoleNode)
	device, foreign := p.Device(t, node, nil, nil), other.Device(t, node, nil, nil)
	otherCode := attest.Development()
	otherCode.Measurements = []string{tee.Measurement(make([]byte, 32)).String()}
	attested := func(a tee.Attester) func(net.Conn) io.Reader {
		return func(c net.Conn) io.Reader {
			s, err := channel.Server(t.Context(), c, channel.ServerTLS(certificate(t)), channel.Config{Attester: a, Timeout: 5 * time.Second})
			if err != nil {
				return strings.NewReader("")
			}
			return s
		}
	}
	plain := func(protocols ...string) func(net.Conn) io.Reader {
		return func(c net.Conn) io.Reader {
			return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: protocols})
		}
	}
	cases := []struct {
		name   string
		serve  func(net.Conn) io.Reader // what the server can read
		roots  tee.Roots
		policy attest.Policy
	}{
		{"no TLS", func(c net.Conn) io.Reader { return c }, p.Roots, attest.Development()},
		{"HTTPS without a protocol", plain(), p.Roots, attest.Development()},
		{"ordinary HTTPS", plain("http/1.1"), p.Roots, attest.Development()},
		{"HTTPS that claims the protocol", plain(channel.Protocol), p.Roots, attest.Development()},
		{"no evidence", attested(nil), p.Roots, attest.Development()},
		{"evidence of another platform", attested(foreign), p.Roots, attest.Development()},
		{"evidence for something else", attested(stale{device}), p.Roots, attest.Development()},
		{"no roots", attested(device), nil, attest.Development()},
		{"another measurement", attested(device), p.Roots, otherCode},
		{"hardware only", attested(device), p.Roots, attest.HardwareDefault()},
	}
	const canary = "canary-name"
	material := []byte("CANARY-MATERIAL")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			heard := make(chan []byte, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					heard <- nil
					return
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(time.Second)) // some servers wait for what never comes
				b, _ := io.ReadAll(c.serve(conn))
				heard <- b
			}()
			n, err := client.NewNode(client.NodeConfig{Address: l.Addr().String(), Roots: c.roots, Policy: c.policy})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if _, err := n.PutKey(t.Context(), client.PutKey{Name: canary, Material: bytes.Clone(material), Policy: json.RawMessage(`{}`)}); err == nil {
				t.Error("the call succeeds")
			} else if _, ok := errors.AsType[*problem.Problem](err); ok {
				t.Errorf("the stranger's answer was read: %v", err)
			}
			_ = l.Close()
			b := <-heard
			for _, secret := range []string{canary, "/v1/keys", "POST", base64.StdEncoding.EncodeToString(material)} {
				if bytes.Contains(b, []byte(secret)) {
					t.Errorf("the stranger has read %q", b)
				}
			}
		})
	}
}

func TestNodeRefusesAnEmptyPolicy(t *testing.T) {
	if _, err := client.NewNode(client.NodeConfig{Address: "127.0.0.1:1"}); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("got %v", err)
	}
}

// proven is a client of an attested node whose answers the test chooses.
func proven(t *testing.T, handler http.Handler) *client.Node {
	t.Helper()
	p := softwaretest.New(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	device := p.Device(t, launch.NewBuiltin(launch.RoleNode), nil, nil)
	l := channel.NewListener(inner, channel.ServerTLS(certificate(t)), channel.Config{Attester: device}, nil)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	n, err := client.NewNode(client.NodeConfig{Address: l.Addr().String(), Roots: p.Roots, Policy: attest.Development()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(); server.Close(); <-done })
	return n
}

func TestNodeAnswers(t *testing.T) {
	good := newSigner(t, softwaretest.New(t)).sign(t, receipt()) // of another platform
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/keys", func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, problem.New(http.StatusConflict, "exists", "detail", "hint"))
	})
	mux.HandleFunc("POST /v1/nonce", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	mux.HandleFunc("GET /v1/receipts/7", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
	mux.HandleFunc("GET /v1/identity", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(client.Identity{Key: good.Key, Evidence: good.Evidence})
	})
	mux.HandleFunc("POST /v1/rotate/{name...}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"name": r.PathValue("name")})
	})
	n := proven(t, mux)
	_, err = n.Keys(t.Context())
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Code != "exists" || p.Hint != "hint" || p.Status != http.StatusConflict {
		t.Errorf("a problem arrives as %v", err)
	}
	_, err = n.Receipts(t.Context(), 0)
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Code != "http_status" || p.Status != http.StatusNotFound {
		t.Errorf("an answer that is no problem arrives as %v", err)
	}
	if nonce, err := n.Nonce(t.Context()); err == nil {
		t.Errorf("HTML is nonce %x", nonce)
	}
	// What a node signs is checked even on a proven connection: it is kept.
	if _, err := n.Receipt(t.Context(), 7); !errors.Is(err, tee.ErrNotVerified) {
		t.Errorf("a receipt of another platform: %v", err)
	}
	if _, err := n.Identity(t.Context()); !errors.Is(err, tee.ErrNotVerified) {
		t.Errorf("an identity over another nonce: %v", err)
	}
	for _, name := range []string{"app/key", "a b/c?d", "app/key#x", "a%2fb"} {
		if k, err := n.Rotate(t.Context(), name); err != nil || k.Name != name {
			t.Errorf("the name %q arrives as %q (%v)", name, k.Name, err)
		}
	}
}

func TestNodeUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	n, err := client.NewNode(client.NodeConfig{Address: l.Addr().String(), Policy: attest.Development()})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, err = n.Nonce(t.Context())
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable || e.Hint == "" {
		t.Errorf("nobody listens: %v", err)
	}

	arrived, release := make(chan struct{}), make(chan struct{})
	slow := proven(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(arrived); <-release }))
	ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(time.Second), nil)
	defer cancel()
	_, err = slow.Nonce(ctx)
	<-arrived
	close(release)
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
}

// A node can be reached by other ways than TCP.
func TestNodeDial(t *testing.T) {
	refused := errors.New("no route")
	var asked string
	n, err := client.NewNode(client.NodeConfig{Address: "node.example:443", Policy: attest.Development(), Dial: func(_ context.Context, address string) (net.Conn, error) {
		asked = address
		return nil, refused
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Nonce(t.Context()); !errors.Is(err, refused) || asked != "node.example:443" {
		t.Errorf("asked for %q: %v", asked, err)
	}
}
