package channel

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/cloister-cc/cloister/attest"
)

// Conn is an established channel. It is a net.Conn.
type Conn struct {
	*tls.Conn
	peer *attest.Verified
}

// PeerVerified returns what was proven about the peer; nil: nothing was asked.
func (c *Conn) PeerVerified() *attest.Verified { return c.peer }

// ClientIdentity returns the identity of the client at the other end: the
// SHA-256 of its certificate's public key (SPKI DER), whose private key the TLS
// handshake has shown it to hold; nil without a certificate. Nobody vouches for
// the certificate: the key is the identity.
func (c *Conn) ClientIdentity() []byte { return identityOf(c.Conn) }

func identityOf(c *tls.Conn) []byte {
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	return Identity(certs[0])
}

// Identity returns the identity of the holder of a certificate's key.
func Identity(cert *x509.Certificate) []byte {
	d := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return d[:]
}

// Client establishes a channel over conn. On success the peer is proven as cfg
// asks; on failure conn is closed.
func Client(ctx context.Context, conn net.Conn, certificate *tls.Certificate, cfg Config) (*Conn, error) {
	tc := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{Protocol},
		ServerName: "cloister",
		// The server's certificate is self-signed and vouched for by nobody: the
		// evidence that follows, bound to this connection and this certificate,
		// says who the peer is. Without it the channel is not established.
		InsecureSkipVerify: true, //nolint:gosec // see above
	}
	var own []byte
	if certificate != nil {
		tc.Certificates = []tls.Certificate{*certificate}
		own = certificate.Certificate[0]
	}
	t := tls.Client(conn, tc)
	c, err := establish(ctx, t, cfg, func(ctx context.Context) (*attest.Verified, error) {
		s, err := sessionOf(t.ConnectionState(), own, true)
		if err != nil {
			return nil, err
		}
		return clientExchange(ctx, t, s, cfg)
	})
	return c, err
}

// Server establishes a channel on a connection that a client opened; see
// [ServerTLS] for config. On failure conn is closed.
func Server(ctx context.Context, conn net.Conn, config *tls.Config, cfg Config) (*Conn, error) {
	t := tls.Server(conn, config)
	return establish(ctx, t, cfg, func(ctx context.Context) (*attest.Verified, error) {
		s, err := sessionOf(t.ConnectionState(), config.Certificates[0].Certificate[0], false)
		if err != nil {
			return nil, err
		}
		return serverExchange(ctx, t, s, cfg)
	})
}

// ServerTLS returns the TLS configuration of a server with this certificate,
// self-signed as a rule. Client certificates are asked for, and accepted from
// anybody: [Conn.ClientIdentity] is their key.
func ServerTLS(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{Protocol, "http/1.1"},
		ClientAuth:   tls.RequestClientCert,
		// A resumed session proves no certificate anew.
		SessionTicketsDisabled: true,
	}
}

// establish runs handshake and exchange within the time limit.
func establish(ctx context.Context, t *tls.Conn, cfg Config, exchange func(context.Context) (*attest.Verified, error)) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.timeout())
	defer cancel()
	deadline, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { _ = t.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := t.SetDeadline(deadline)
	if err == nil {
		err = t.HandshakeContext(ctx)
	}
	if err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("%w: %w", ErrChannel, err)
	}
	peer, err := exchange(ctx)
	if err != nil {
		_ = t.Close()
		return nil, err
	}
	if !stop() {
		_ = t.Close()
		return nil, fmt.Errorf("%w: %w", ErrChannel, ctx.Err())
	}
	if err := t.SetDeadline(time.Time{}); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("%w: %w", ErrChannel, err)
	}
	return &Conn{Conn: t, peer: peer}, nil
}
