package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
)

func TestChannel(t *testing.T) {
	node, agent := attesttest.New(tee.Claims{InstanceID: "node"}), attesttest.New(tee.Claims{InstanceID: "agent"})
	cert, own := newCertificate(t), newCertificate(t)
	cases := []struct {
		name           string
		client, server Config
		clientCert     *tls.Certificate
		seen, shown    string // instance that the client, the server has proven
	}{
		{"one way", Config{Appraise: accepting(t, node)}, Config{Attester: node}, nil, "node", ""},
		{"one way, with an identity", Config{Appraise: accepting(t, node)}, Config{Attester: node}, own, "node", ""},
		{"mutual", Config{Attester: agent, Appraise: accepting(t, node)}, Config{Attester: node, Appraise: accepting(t, agent)}, nil, "node", "agent"},
		{"mutual, with an identity", Config{Attester: agent, Appraise: accepting(t, node)}, Config{Attester: node, Appraise: accepting(t, agent)}, own, "node", "agent"},
		{"evidence that nobody asks for", Config{Attester: agent, Appraise: accepting(t, node)}, Config{Attester: node}, nil, "node", ""},
		{"only the client shows evidence", Config{Attester: agent, SkipPeerEvidenceInsecure: true}, Config{Appraise: accepting(t, agent)}, nil, "", "agent"},
		{"nobody shows evidence", Config{SkipPeerEvidenceInsecure: true}, Config{}, nil, "", ""},
	}
	instance := func(c *Conn) string {
		if v := c.PeerVerified(); v != nil {
			return v.Claims.InstanceID
		}
		return ""
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, server, err, serverErr := connect(t, clientSide(t.Context(), c.clientCert, c.client), serverSide(t.Context(), cert, c.server))
			if err != nil || serverErr != nil {
				t.Fatalf("client %v, server %v", err, serverErr)
			}
			if instance(client) != c.seen || instance(server) != c.shown {
				t.Errorf("client has proven %q, server %q", instance(client), instance(server))
			}
			identity := []byte(nil)
			if c.clientCert != nil {
				identity = Identity(must(tlsLeaf(c.clientCert)))
			}
			if got := server.ClientIdentity(); !bytes.Equal(got, identity) {
				t.Errorf("client identity %x, want %x", got, identity)
			}
			echo(t, client, server)
		})
	}
}

// echo sends bytes both ways; the deadlines of the exchange are gone by then.
func echo(t *testing.T, a, b io.ReadWriter) {
	t.Helper()
	for _, ends := range [][2]io.ReadWriter{{a, b}, {b, a}} {
		if _, err := ends[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(ends[1], got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestClientRefuses(t *testing.T) {
	node := attesttest.New(tee.Claims{Debug: true})
	stranger := attesttest.New(tee.Claims{})
	cert := newCertificate(t)
	cases := []struct {
		name           string
		client, server Config
		codes          []tee.Code // empty: no verdict, ErrChannel
	}{
		{"nothing says whom to accept", Config{}, Config{Attester: stranger}, nil},
		{"no evidence", Config{Appraise: accepting(t, stranger)}, Config{}, []tee.Code{tee.CodeBinding}},
		{"evidence of another platform", Config{Appraise: accepting(t, stranger)}, Config{Attester: node}, []tee.Code{tee.CodeChain}},
		{"policy says no", Config{Appraise: accepting(t, node)}, Config{Attester: node}, []tee.Code{attest.CodeDebug}},
		{"no verdict at all", Config{Appraise: func(tee.Evidence, [64]byte) (*attest.Verified, error) { return nil, nil }}, Config{Attester: node}, nil},
		{"attester fails", Config{Appraise: accepting(t, stranger)}, Config{Attester: broken{}}, nil},
		{"own attester fails", Config{Attester: broken{}, Appraise: accepting(t, stranger)}, Config{Attester: stranger, Appraise: accepting(t, stranger)}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, server, err, serverErr := connect(t, clientSide(t.Context(), nil, c.client), serverSide(t.Context(), cert, c.server))
			if len(c.codes) == 0 {
				wantBroken(t, err)
			} else {
				wantRefused(t, err, c.codes...)
			}
			wantBroken(t, serverErr) // the client hangs up
			if client != nil || server != nil {
				t.Error("a channel beside an error")
			}
		})
	}
}

func TestServerRefuses(t *testing.T) {
	node, agent, stranger := attesttest.New(tee.Claims{}), attesttest.New(tee.Claims{Debug: true}), attesttest.New(tee.Claims{})
	cases := []struct {
		name  string
		shown tee.Attester
		codes []tee.Code
	}{
		{"no evidence", nil, []tee.Code{tee.CodeBinding}},
		{"evidence of another platform", stranger, []tee.Code{tee.CodeChain}},
		{"policy says no", agent, []tee.Code{attest.CodeDebug}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, server, err, serverErr := connect(t,
				clientSide(t.Context(), nil, Config{Attester: c.shown, Appraise: accepting(t, node)}),
				serverSide(t.Context(), newCertificate(t), Config{Attester: node, Appraise: accepting(t, agent)}))
			wantRefused(t, serverErr, c.codes...)
			wantRefused(t, err, append(c.codes, "peer_refused")...)
			if client != nil || server != nil {
				t.Error("a channel beside an error")
			}
		})
	}
}

// broken is a TEE device that does not answer.
type broken struct{}

func (broken) Kind() tee.Kind { return tee.Software }

func (broken) Evidence(context.Context, [64]byte) (tee.Evidence, error) {
	return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: "test"}
}

// A peer that speaks TLS but not this protocol never gets as far as evidence.
func TestOtherProtocols(t *testing.T) {
	node, cert := attesttest.New(tee.Claims{}), newCertificate(t)
	plain := func(change func(*tls.Config)) side {
		return func(c net.Conn) (*Conn, error) {
			cfg := ServerTLS(*cert)
			change(cfg)
			server := tls.Server(c, cfg)
			defer server.Close()
			return nil, server.Handshake()
		}
	}
	for name, server := range map[string]side{
		"no ALPN":   plain(func(c *tls.Config) { c.NextProtos = nil }),
		"HTTP only": plain(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }),
		"TLS 1.2":   plain(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }),
		"no TLS": func(c net.Conn) (*Conn, error) {
			_, err := io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return nil, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err, _ := connect(t, clientSide(t.Context(), nil, Config{Appraise: accepting(t, node)}), server)
			wantBroken(t, err)
		})
	}
	t.Run("client without ALPN", func(t *testing.T) {
		client := func(c net.Conn) (*Conn, error) {
			return nil, tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
		}
		_, _, _, err := connect(t, client, serverSide(t.Context(), cert, Config{Attester: node}))
		wantBroken(t, err)
	})
}

// A silent peer costs no more than the time limit, and less when the caller
// gives up first.
func TestSilentPeer(t *testing.T) {
	node, cert := attesttest.New(tee.Claims{}), newCertificate(t)
	short := Config{Appraise: accepting(t, node), Timeout: 20 * time.Millisecond}
	silent := func(c net.Conn) (*Conn, error) {
		_, err := io.Copy(io.Discard, c)
		return nil, err
	}
	afterTLS := func(c *tls.Conn, _ session) error {
		_, err := io.Copy(io.Discard, c)
		return err
	}
	t.Run("client, before TLS", func(t *testing.T) {
		_, _, err, _ := connect(t, clientSide(t.Context(), nil, short), silent)
		wantBroken(t, err)
	})
	t.Run("client, after TLS", func(t *testing.T) {
		_, _, err, _ := connect(t, clientSide(t.Context(), nil, short), rawServer(cert, afterTLS))
		wantBroken(t, err)
	})
	t.Run("server", func(t *testing.T) {
		for name, client := range map[string]side{"before TLS": silent, "after TLS": rawClient(afterTLS)} {
			_, _, _, err := connect(t, client, serverSide(t.Context(), cert, short))
			if !errors.Is(err, ErrChannel) {
				t.Errorf("%s: got %v, want ErrChannel", name, err)
			}
		}
	})
	t.Run("caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server := rawServer(cert, func(c *tls.Conn, _ session) error {
			var h hello
			err := exchange(c, nil, &h)
			cancel()
			return errors.Join(err, afterTLS(c, session{}))
		})
		_, _, err, _ := connect(t, clientSide(ctx, nil, Config{Appraise: accepting(t, node), Timeout: time.Hour}), server)
		wantBroken(t, err)
	})
}
