package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair connects an instance and its host, with handle on the host's side.
func pair(t testing.TB, handle func(link.Request, net.Conn)) (instance *link.Link) {
	t.Helper()
	a, b := net.Pipe()
	host, err := link.New(a, true)
	if err != nil {
		t.Fatal(err)
	}
	instance, err = link.New(b, false)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { host.Serve(handle) })
	t.Cleanup(func() {
		_ = instance.Close()
		_ = host.Close()
		wg.Wait()
	})
	return instance
}

func TestStream(t *testing.T) {
	content := bytes.Repeat([]byte("image"), 100_000)
	l := pair(t, func(r link.Request, c net.Conn) {
		defer func() { _ = c.Close() }()
		if r.Op != link.OpInput || r.Name != "data" {
			link.Refuse(c, "not that")
			return
		}
		if link.Accept(c, int64(len(content))) == nil {
			_, _ = c.Write(content)
		}
	})
	s, reply, err := l.Open(link.Request{Op: link.OpInput, Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, content) || reply.Size != int64(len(content)) {
		t.Errorf("%d bytes of %d announced (%v)", len(got), reply.Size, err)
	}
	_ = s.Close()
	if _, _, err := l.Open(link.Request{Op: "other"}); !errors.Is(err, link.ErrRefused) || !strings.Contains(err.Error(), "not that") {
		t.Errorf("got %v, want a refusal with its reason", err)
	}
}

func TestManyStreamsAtOnce(t *testing.T) {
	l := pair(t, func(r link.Request, c net.Conn) {
		defer func() { _ = c.Close() }()
		if link.Accept(c, 0) == nil {
			_, _ = io.WriteString(c, r.Name)
		}
	})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			name := strings.Repeat("x", i)
			s, _, err := l.Open(link.Request{Op: link.OpInput, Name: name})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.Close() }()
			if b, err := io.ReadAll(s); err != nil || string(b) != name {
				t.Errorf("stream %d carried %q (%v)", i, b, err)
			}
		})
	}
	wg.Wait()
}

func TestMalformedRequestsAreClosed(t *testing.T) {
	a, b := net.Pipe()
	handled := make(chan link.Request, 10)
	host, err := link.New(a, true)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := link.New(b, false)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { host.Serve(func(r link.Request, c net.Conn) { handled <- r; link.Refuse(c, "x") }) })
	// Requests go through Open only, so malformed ones are made of its fields.
	for name, r := range map[string]link.Request{
		"too long": {Op: link.OpInput, Name: strings.Repeat("x", link.MaxRequest)},
		"not text": {Op: link.Op("\xff\xfe")},
	} {
		if _, _, err := instance.Open(r); err == nil || errors.Is(err, link.ErrRefused) {
			t.Errorf("%s: %v, want the stream closed without an answer", name, err)
		}
	}
	if _, _, err := instance.Open(link.Request{Op: "fine"}); !errors.Is(err, link.ErrRefused) {
		t.Errorf("after malformed requests the channel is of no use: %v", err)
	}
	if len(handled) != 1 {
		t.Errorf("%d requests reached the handler, want 1", len(handled))
	}
	_ = instance.Close()
	_ = host.Close()
	wg.Wait()
}

// tamper is a hostile host between the two ends: it sees every write of one side
// as a message of its own.
type tamper struct {
	net.Conn
	mu   sync.Mutex
	n    int
	last []byte
	do   func(n int, last, now []byte) [][]byte
}

func (c *tamper) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	now := bytes.Clone(b)
	for _, m := range c.do(c.n, c.last, now) {
		if _, err := c.Conn.Write(m); err != nil {
			return 0, err
		}
	}
	c.last = now
	return len(b), nil
}

// attacks cut, double, swap and alter what passes.
var attacks = map[string]func(n int, last, now []byte) [][]byte{
	"truncates": func(n int, _, now []byte) [][]byte {
		if n > 4 {
			return [][]byte{now[:len(now)/2]}
		}
		return [][]byte{now}
	},
	"replays": func(n int, last, now []byte) [][]byte {
		if n > 4 && last != nil {
			return [][]byte{last, now, last}
		}
		return [][]byte{now}
	},
	"reorders": func(n int, last, now []byte) [][]byte {
		if n%2 == 1 && n > 4 {
			return nil // held back
		}
		if n > 4 && last != nil {
			return [][]byte{now, last}
		}
		return [][]byte{now}
	},
	"flips": func(n int, _, now []byte) [][]byte {
		if n > 4 {
			now[len(now)-1] ^= 0x80
		}
		return [][]byte{now}
	},
}

// TestHostileHost has a host tamper with a channel in which attested TLS runs:
// the instance gets the right answer, an error or nothing; never another answer.
func TestHostileHost(t *testing.T) {
	fake := attesttest.New(tee.Claims{})
	appraise := func(ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
		return attest.NewVerifier(fake).Verify(ev, fake.Input(time.Now()), attest.BindTo(reportData))
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			host, err := link.New(&tamper{Conn: a, do: attack}, true)
			if err != nil {
				t.Fatal(err)
			}
			instance, err := link.New(b, false)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { host.Serve(func(_ link.Request, c net.Conn) { answer(t, c, fake) }) })
			deadline := time.AfterFunc(5*time.Second, func() { _ = instance.Close(); _ = host.Close() })
			for range 5 {
				if got, err := ask(instance, appraise); err == nil && got != "abc" {
					t.Errorf("the answer is %q, and the channel says it is whole", got)
				}
			}
			deadline.Stop()
			_ = instance.Close()
			_ = host.Close()
			wg.Wait()
		})
	}
}

// answer is a node behind the host.
func answer(t *testing.T, c net.Conn, fake *attesttest.TEE) {
	defer func() { _ = c.Close() }()
	if link.Accept(c, 0) != nil {
		return
	}
	s, err := channel.Server(t.Context(), c, channel.ServerTLS(certificate(t)), channel.Config{Attester: fake, Timeout: time.Second})
	if err != nil {
		return
	}
	_, _ = io.WriteString(s, "abc")
	_ = s.Close()
}

// ask is an instance that wants an answer from a proven node.
func ask(l *link.Link, appraise func(tee.Evidence, [64]byte) (*attest.Verified, error)) (string, error) {
	s, _, err := l.Open(link.Request{Op: link.OpDial, Name: "node"})
	if err != nil {
		return "", err
	}
	c, err := channel.Client(context.Background(), s, nil, channel.Config{Appraise: appraise, Timeout: time.Second})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	b, err := io.ReadAll(c)
	return string(b), err
}

func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Error(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// FuzzHost gives the host's side of a channel arbitrary bytes, as a program that
// took over its agent could.
func FuzzHost(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0})
	var b bytes.Buffer
	_ = frame.Write(&b, link.Request{Op: link.OpImage})
	head := []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, byte(b.Len())}
	f.Add(append(head, b.Bytes()...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		a, c := net.Pipe()
		l, err := link.New(a, true)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			l.Serve(func(_ link.Request, s net.Conn) { link.Refuse(s, "no") })
			close(done)
		}()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(stream)
		_ = c.Close()
		_ = l.Close()
		<-done
	})
}
