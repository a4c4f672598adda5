package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// recording is a host that shows the same evidence on every connection.
type recording struct {
	tee.Attester
	first *tee.Evidence
}

func (r *recording) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	if r.first == nil {
		ev, err := r.Attester.Evidence(ctx, reportData)
		r.first = &ev
		return ev, err
	}
	return *r.first, nil
}

func TestReplayedEvidence(t *testing.T) {
	node, cert := attesttest.New(tee.Claims{}), newCertificate(t)
	client := clientSide(t.Context(), nil, Config{Appraise: accepting(t, node)})
	server := serverSide(t.Context(), cert, Config{Attester: &recording{Attester: node}})
	if _, _, err, _ := connect(t, client, server); err != nil {
		t.Fatal(err) // the first time it is fresh
	}
	_, _, err, _ := connect(t, client, server)
	wantRefused(t, err, tee.CodeBinding)
}

// A man in the middle ends TLS with a certificate of its own and passes the
// exchange on to the real node, word for word.
func TestRelayedEvidence(t *testing.T) {
	node, agent := attesttest.New(tee.Claims{}), attesttest.New(tee.Claims{})
	nodeCert := newCertificate(t)
	for name, own := range map[string]*tls.Certificate{"own certificate": newCertificate(t), "the node's own certificate": nodeCert} {
		t.Run(name, func(t *testing.T) {
			toNode, nodeEnd := pipe(t)
			nodeErr := make(chan error, 1)
			go func() {
				_, err := Server(t.Context(), nodeEnd, ServerTLS(*nodeCert), Config{Attester: node, Appraise: accepting(t, agent)})
				nodeErr <- err
			}()
			middle := rawServer(own, func(victim *tls.Conn, _ session) error {
				defer toNode.Close()
				_, err := rawClient(func(real *tls.Conn, _ session) error {
					var h hello
					var r reply
					if err := errors.Join(exchange(victim, nil, &h), exchange(real, h, &r)); err != nil {
						return err
					}
					if r.Evidence == nil {
						return errors.New("the node showed no evidence: nothing was relayed")
					}
					return exchange(victim, r, nil)
				})(toNode)
				return err
			})
			_, _, err, relayErr := connect(t, clientSide(t.Context(), nil, Config{Attester: agent, Appraise: accepting(t, node)}), middle)
			if relayErr != nil {
				t.Fatal(relayErr)
			}
			wantRefused(t, err, tee.CodeBinding)
			wantBroken(t, <-nodeErr)
		})
	}
}

// The same from the other side: a client's evidence, taken from its connection
// with somebody else, does not open the node.
func TestRelayedClientEvidence(t *testing.T) {
	node, agent := attesttest.New(tee.Claims{}), attesttest.New(tee.Claims{})
	thief := rawClient(func(real *tls.Conn, s session) error {
		var r reply
		if err := exchange(real, hello{Version: version, Nonce: make([]byte, nonceSize), Want: true, Offer: true}, &r); err != nil {
			return err
		}
		other := session{exporter: bytes.Repeat([]byte{1}, 32), client: s.client, server: s.server}
		ev := must(agent.Evidence(t.Context(), other.binding(roleClient, r.Nonce)))
		var v verdict
		if err := exchange(real, proof{Version: version, Evidence: &ev}, &v); err != nil || v.OK {
			return errors.Join(err, errors.New("accepted"))
		}
		return io.EOF // refused, as it should be
	})
	_, _, err, serverErr := connect(t, thief, serverSide(t.Context(), newCertificate(t), Config{Attester: node, Appraise: accepting(t, agent)}))
	wantRefused(t, serverErr, tee.CodeBinding)
	if !errors.Is(err, io.EOF) {
		t.Errorf("the thief saw %v", err)
	}
}

// A hostile server that can have evidence made by the client's own TEE, for this
// connection and this nonce, but only as what it is: the client's.
func TestReflectedEvidence(t *testing.T) {
	both := attesttest.New(tee.Claims{}) // client and node are the same code
	mirror := rawServer(newCertificate(t), func(c *tls.Conn, s session) error {
		var h hello
		if err := exchange(c, nil, &h); err != nil {
			return err
		}
		ev := must(both.Evidence(t.Context(), s.binding(roleClient, h.Nonce)))
		return exchange(c, reply{Version: version, Nonce: h.Nonce, Evidence: &ev, Want: true}, nil)
	})
	own := newCertificate(t)
	_, _, err, mirrorErr := connect(t, clientSide(t.Context(), own, Config{Attester: both, Appraise: accepting(t, both)}), mirror)
	wantRefused(t, err, tee.CodeBinding)
	if mirrorErr != nil {
		t.Error(mirrorErr)
	}
}

// Evidence for a certificate other than the one of the handshake.
func TestOtherCertificate(t *testing.T) {
	node, stated, shown := attesttest.New(tee.Claims{}), newCertificate(t), newCertificate(t)
	server := func(c net.Conn) (*Conn, error) {
		cfg := ServerTLS(*stated)
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return ServerTLS(*shown), nil }
		return Server(t.Context(), c, cfg, Config{Attester: node})
	}
	_, _, err, _ := connect(t, clientSide(t.Context(), nil, Config{Appraise: accepting(t, node)}), server)
	wantRefused(t, err, tee.CodeBinding)
}

// Every part of the session is in the report data, and the two roles differ even
// when everything else is equal.
func TestBinding(t *testing.T) {
	base := session{exporter: []byte("e"), client: []byte("l"), server: []byte("l")}
	nonce := []byte("n")
	seen := map[[64]byte]string{}
	for name, b := range map[string][64]byte{
		"client": base.binding(roleClient, nonce), "server": base.binding(roleServer, nonce), "nonce": base.binding(roleServer, []byte("m")),
		"exporter":    session{exporter: []byte("f"), server: base.server}.binding(roleServer, nonce),
		"certificate": session{exporter: base.exporter, server: []byte("m")}.binding(roleServer, nonce),
		"none":        session{exporter: base.exporter}.binding(roleServer, nonce),
		"shifted":     session{exporter: []byte("el"), server: nil}.binding(roleServer, nonce),
	} {
		if twin, ok := seen[b]; ok {
			t.Errorf("%s and %s have the same report data", name, twin)
		}
		seen[b] = name
	}
}

func TestClientRefusesMessages(t *testing.T) {
	node, cert := attesttest.New(tee.Claims{}), newCertificate(t)
	nonce := bytes.Repeat([]byte{1}, nonceSize)
	answer := func(change func(*reply), then func(c *tls.Conn) error) func(*tls.Conn, session) error {
		return func(c *tls.Conn, s session) error {
			var h hello
			if err := exchange(c, nil, &h); err != nil {
				return err
			}
			ev := must(node.Evidence(t.Context(), s.binding(roleServer, h.Nonce)))
			r := reply{Version: version, Nonce: nonce, Evidence: &ev}
			change(&r)
			if err := exchange(c, r, nil); err != nil {
				return err
			}
			return then(c)
		}
	}
	nothing := func(*tls.Conn) error { return nil }
	end := func(v verdict) func(c *tls.Conn) error {
		return func(c *tls.Conn) error { return exchange(c, v, new(proof)) }
	}
	cases := []struct {
		name  string
		talk  func(*tls.Conn, session) error
		codes []tee.Code
	}{
		{"nothing", func(c *tls.Conn, _ session) error { return c.Close() }, nil},
		{"HTTP", func(c *tls.Conn, _ session) error { _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); return err }, nil},
		{"a message too long", func(c *tls.Conn, _ session) error { return exchange(c, make([]byte, MaxMessage), nil) }, nil},
		{"another message", func(c *tls.Conn, _ session) error { return exchange(c, verdict{Version: version, OK: true}, nil) }, nil},
		{"another version", answer(func(r *reply) { r.Version = 2 }, nothing), nil},
		{"no version", answer(func(r *reply) { r.Version = 0 }, nothing), nil},
		{"short nonce", answer(func(r *reply) { r.Nonce = nonce[1:] }, nothing), nil},
		{"no nonce", answer(func(r *reply) { r.Nonce = nil }, nothing), nil},
		{"no verdict", answer(func(*reply) {}, nothing), nil},
		{"a bad verdict", answer(func(*reply) {}, end(verdict{Version: version})), []tee.Code{"peer_refused"}},
		{"a verdict of another version", answer(func(*reply) {}, end(verdict{Version: 2, OK: true})), []tee.Code{"peer_refused"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			server := rawServer(cert, func(conn *tls.Conn, s session) error {
				defer conn.Close()
				return c.talk(conn, s)
			})
			client, _, err, _ := connect(t, clientSide(t.Context(), nil, Config{Appraise: accepting(t, node)}), server)
			if c.codes == nil {
				wantBroken(t, err)
			} else {
				wantRefused(t, err, c.codes...)
			}
			if client != nil {
				t.Error("a channel beside an error")
			}
		})
	}
}

func TestServerRefusesMessages(t *testing.T) {
	node, cert := attesttest.New(tee.Claims{}), newCertificate(t)
	good := hello{Version: version, Nonce: bytes.Repeat([]byte{1}, nonceSize), Want: true}
	with := func(change func(*hello)) hello {
		h := good
		change(&h)
		return h
	}
	after := func(p any) func(*tls.Conn, session) error {
		return func(c *tls.Conn, _ session) error {
			return errors.Join(exchange(c, good, new(reply)), exchange(c, p, nil))
		}
	}
	first := func(h any) func(*tls.Conn, session) error {
		return func(c *tls.Conn, _ session) error {
			if exchange(c, h, new(reply)) == nil {
				return errAnswered
			}
			return nil
		}
	}
	for name, talk := range map[string]func(*tls.Conn, session) error{
		"HTTP":                     func(c *tls.Conn, _ session) error { _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); return err },
		"another version":          first(with(func(h *hello) { h.Version = 2 })),
		"short nonce":              first(with(func(h *hello) { h.Nonce = h.Nonce[1:] })),
		"long nonce":               first(with(func(h *hello) { h.Nonce = append(h.Nonce, 0) })),
		"a message too long":       first(strings.Repeat("a", MaxMessage)),
		"unknown member":           first(map[int]any{1: 1, 2: good.Nonce, 3: true, 4: false, 5: true}),
		"another version of proof": after(proof{Version: 2}),
		"no proof":                 after(verdict{Version: version, OK: true, Failures: []tee.Failure{{Code: "x"}}}),
	} {
		t.Run(name, func(t *testing.T) {
			client := rawClient(func(c *tls.Conn, s session) error {
				defer c.Close()
				return talk(c, s)
			})
			_, server, clientErr, err := connect(t, client, serverSide(t.Context(), cert, Config{Attester: node}))
			wantBroken(t, err)
			if errors.Is(clientErr, errAnswered) {
				t.Error(clientErr)
			}
			if server != nil {
				t.Error("a channel beside an error")
			}
		})
	}
}

var errAnswered = errors.New("the server showed evidence to a peer that speaks something else")

// stream gives a peer's bytes and swallows what is sent to it.
type stream struct {
	io.Reader
	io.Writer
}

// FuzzExchange is a peer that sends any bytes after the handshake. It has no
// TEE, so nobody who asks for evidence accepts it.
func FuzzExchange(f *testing.F) {
	node := attesttest.New(tee.Claims{})
	s := session{exporter: []byte("exporter"), server: []byte("leaf")}
	ev := must(node.Evidence(f.Context(), s.binding(roleServer, make([]byte, nonceSize))))
	var fromClient, fromServer bytes.Buffer
	nonce := make([]byte, nonceSize)
	for _, m := range []any{hello{version, nonce, true, true}, proof{Version: version, Evidence: &ev}} {
		if err := frame.Write(&fromClient, m); err != nil {
			f.Fatal(err)
		}
	}
	for _, m := range []any{reply{Version: version, Nonce: nonce, Evidence: &ev, Want: true}, verdict{Version: version, OK: true}} {
		if err := frame.Write(&fromServer, m); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(fromClient.Bytes())
	f.Add(fromServer.Bytes())
	f.Add([]byte{0, 0, 0, 1, 0xa0})
	cfg := Config{Attester: node, Appraise: accepting(f, node)}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, side := range map[string]func(context.Context, io.ReadWriter, session, Config) (*attest.Verified, error){"client": clientExchange, "server": serverExchange} {
			peer, err := side(t.Context(), stream{bytes.NewReader(b), io.Discard}, s, cfg)
			if err == nil || peer != nil {
				t.Fatalf("the %s accepted %+v", name, peer)
			}
			if !errors.Is(err, ErrChannel) && attest.Codes(err) == nil {
				t.Fatalf("the %s says %v", name, err)
			}
		}
	})
}
