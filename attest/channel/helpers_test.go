package channel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// accepting appraises evidence of one fake TEE under a development policy.
func accepting(t testing.TB, f *attesttest.TEE) func(tee.Evidence, [64]byte) (*attest.Verified, error) {
	t.Helper()
	a, err := attest.Compile(attest.Development())
	if err != nil {
		t.Fatal(err)
	}
	return func(ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
		v, err := attest.NewVerifier(f).Verify(ev, f.Input(time.Now()), attest.BindTo(reportData))
		if err != nil {
			return nil, err
		}
		return v, a.Appraise(v)
	}
}

// pipe is a TCP connection over loopback.
func pipe(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// side is one end: an attested channel, or a peer that a test scripts.
type side func(net.Conn) (*Conn, error)

func clientSide(ctx context.Context, cert *tls.Certificate, cfg Config) side {
	return func(c net.Conn) (*Conn, error) { return Client(ctx, c, cert, cfg) }
}

func serverSide(ctx context.Context, cert *tls.Certificate, cfg Config) side {
	return func(c net.Conn) (*Conn, error) { return Server(ctx, c, ServerTLS(*cert), cfg) }
}

// connect runs both sides against each other.
func connect(t testing.TB, client, server side) (c, s *Conn, clientErr, serverErr error) {
	t.Helper()
	a, b := pipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, serverErr = server(b)
	}()
	c, clientErr = client(a)
	if clientErr != nil {
		a.Close()
	}
	<-done
	return c, s, clientErr, serverErr
}

// rawServer is a peer that ends TLS properly and then does as it likes.
func rawServer(cert *tls.Certificate, talk func(*tls.Conn, session) error) side {
	return func(c net.Conn) (*Conn, error) {
		t := tls.Server(c, ServerTLS(*cert))
		if err := t.Handshake(); err != nil {
			return nil, err
		}
		s, err := sessionOf(t.ConnectionState(), cert.Certificate[0], false)
		if err != nil {
			return nil, err
		}
		return nil, talk(t, s)
	}
}

// rawClient is the same on the other side.
func rawClient(talk func(*tls.Conn, session) error) side {
	return func(c net.Conn) (*Conn, error) {
		t := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{Protocol}, InsecureSkipVerify: true})
		if err := t.Handshake(); err != nil {
			return nil, err
		}
		s, err := sessionOf(t.ConnectionState(), nil, true)
		if err != nil {
			return nil, err
		}
		return nil, talk(t, s)
	}
}

// exchange sends a message and reads the answer, either of which may be nil.
func exchange(c *tls.Conn, out, in any) error {
	if out != nil {
		if err := frame.Write(c, out); err != nil {
			return err
		}
	}
	if in == nil {
		return nil
	}
	return frame.Read(c, MaxMessage, in)
}

// wantRefused checks that err is a verdict on evidence with these codes.
func wantRefused(t testing.TB, err error, codes ...tee.Code) {
	t.Helper()
	got := attest.Codes(err)
	slices.Sort(codes)
	if err == nil || !slices.Equal(got, codes) {
		t.Errorf("got %v, want a refusal with %v", err, codes)
	}
}

// wantBroken checks that err says that there is no channel.
func wantBroken(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ErrChannel) || attest.Codes(err) != nil {
		t.Errorf("got %v, want ErrChannel and no verdict", err)
	}
}

func tlsLeaf(c *tls.Certificate) (*x509.Certificate, error) {
	return x509.ParseCertificate(c.Certificate[0])
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
