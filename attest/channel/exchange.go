package channel

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// Protocol is the ALPN name (RFC 7301) of connections on which evidence is
// exchanged.
const Protocol = "cloister-attested/1"

// Limits of the exchange.
const (
	MaxMessage     = 256 << 10        // bytes of one message
	DefaultTimeout = 10 * time.Second // for handshake and exchange together
	nonceSize      = 32
	version        = 1
	exporterLabel  = "EXPORTER-cloister-channel-v1"
)

// ErrChannel is wrapped by every failure to establish a channel that is not a
// verdict on evidence. Nothing was sent on it: connect anew.
var ErrChannel = errors.New("attested channel not established")

// Config says what to show and what to ask for. The zero value shows nothing
// and, on the client's side, refuses every peer.
type Config struct {
	// Attester makes this side's evidence; nil shows none.
	Attester tee.Attester
	// Appraise verifies the peer's evidence, which must carry reportData, and
	// says yes by returning it. Nil on the server's side asks clients for none.
	Appraise func(ev tee.Evidence, reportData [64]byte) (*attest.Verified, error)
	// SkipPeerEvidenceInsecure lets a client talk to anybody. Hazard: whoever is
	// at the other end reads everything; for diagnosis only.
	SkipPeerEvidenceInsecure bool
	// Timeout bounds handshake and exchange; 0 means [DefaultTimeout].
	Timeout time.Duration
}

func (c Config) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return DefaultTimeout
}

// hello opens the exchange, from the client.
type hello struct {
	Version uint8  `cbor:"1,keyasint"`
	Nonce   []byte `cbor:"2,keyasint"`
	Want    bool   `cbor:"3,keyasint"` // the client wants the server's evidence
	Offer   bool   `cbor:"4,keyasint"` // the client can show evidence
}

// reply is the server's evidence and its own question.
type reply struct {
	Version  uint8         `cbor:"1,keyasint"`
	Nonce    []byte        `cbor:"2,keyasint"`
	Evidence *tee.Evidence `cbor:"3,keyasint,omitempty"`
	Want     bool          `cbor:"4,keyasint"`
}

// proof is the client's evidence.
type proof struct {
	Version  uint8         `cbor:"1,keyasint"`
	Evidence *tee.Evidence `cbor:"2,keyasint,omitempty"`
}

// verdict ends the exchange, from the server.
type verdict struct {
	Version  uint8         `cbor:"1,keyasint"`
	OK       bool          `cbor:"2,keyasint"`
	Failures []tee.Failure `cbor:"3,keyasint,omitempty"`
}

// role separates the two directions, so that evidence cannot be reflected.
type role string

const (
	roleClient role = "client"
	roleServer role = "server"
)

// session is what evidence on one TLS connection is bound to: the exporter and
// the digests of both leaf certificates, empty for none.
type session struct{ exporter, client, server []byte }

func sessionOf(s tls.ConnectionState, ownCertificate []byte, isClient bool) (session, error) {
	if s.Version < tls.VersionTLS13 || s.NegotiatedProtocol != Protocol {
		return session{}, fmt.Errorf("%w: want TLS 1.3 and protocol %s", ErrChannel, Protocol)
	}
	exporter, err := s.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return session{}, fmt.Errorf("%w: %w", ErrChannel, err)
	}
	var peer []byte
	if len(s.PeerCertificates) > 0 {
		peer = s.PeerCertificates[0].Raw
	}
	out := session{exporter: exporter, client: leaf(ownCertificate), server: leaf(peer)}
	if !isClient {
		out.client, out.server = out.server, out.client
	}
	return out, nil
}

// leaf is the digest of a certificate, empty for none.
func leaf(der []byte) []byte {
	if len(der) == 0 {
		return nil
	}
	d := sha256.Sum256(der)
	return d[:]
}

// binding is the report data of the evidence that the side r shows to a peer
// who chose nonce.
func (s session) binding(r role, nonce []byte) [64]byte {
	own := s.client
	if r == roleServer {
		own = s.server
	}
	return tee.Bind("cloister channel v1", []byte(r), nonce, s.exporter, own)
}

func newNonce() ([]byte, error) {
	n := make([]byte, nonceSize)
	_, err := rand.Read(n)
	return n, err
}

// clientExchange proves and asks on the client's side.
func clientExchange(ctx context.Context, c io.ReadWriter, s session, cfg Config) (*attest.Verified, error) {
	if cfg.Appraise == nil && !cfg.SkipPeerEvidenceInsecure {
		return nil, fmt.Errorf("%w: nothing says which peer to accept", ErrChannel)
	}
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	if err := send(c, hello{Version: version, Nonce: nonce, Want: cfg.Appraise != nil, Offer: cfg.Attester != nil}); err != nil {
		return nil, err
	}
	var r reply
	if err := receive(c, &r); err != nil {
		return nil, err
	}
	if r.Version != version || len(r.Nonce) != nonceSize {
		return nil, fmt.Errorf("%w: the peer speaks another version", ErrChannel)
	}
	peer, err := cfg.appraise(r.Evidence, s.binding(roleServer, nonce))
	if err != nil {
		return nil, err
	}
	var ev *tee.Evidence
	if r.Want {
		if ev, err = cfg.show(ctx, s.binding(roleClient, r.Nonce)); err != nil {
			return nil, err
		}
	}
	if err := send(c, proof{Version: version, Evidence: ev}); err != nil {
		return nil, err
	}
	var v verdict
	if err := receive(c, &v); err != nil {
		return nil, err
	}
	if v.Version != version || !v.OK {
		return nil, &tee.VerifyError{Failures: append([]tee.Failure{{Code: "peer_refused", Hint: "the peer refuses this side's evidence"}}, v.Failures...)}
	}
	return peer, nil
}

// serverExchange proves and asks on the server's side.
func serverExchange(ctx context.Context, c io.ReadWriter, s session, cfg Config) (*attest.Verified, error) {
	var h hello
	if err := receive(c, &h); err != nil {
		return nil, err
	}
	if h.Version != version || len(h.Nonce) != nonceSize {
		return nil, fmt.Errorf("%w: the peer speaks another version", ErrChannel)
	}
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	r := reply{Version: version, Nonce: nonce, Want: cfg.Appraise != nil}
	if h.Want {
		if r.Evidence, err = cfg.show(ctx, s.binding(roleServer, h.Nonce)); err != nil {
			return nil, err
		}
	}
	if err := send(c, r); err != nil {
		return nil, err
	}
	var p proof
	if err := receive(c, &p); err != nil {
		return nil, err
	}
	if p.Version != version {
		return nil, fmt.Errorf("%w: the peer speaks another version", ErrChannel)
	}
	peer, refused := cfg.appraise(p.Evidence, s.binding(roleClient, nonce))
	v := verdict{Version: version, OK: refused == nil}
	if refused != nil {
		v.Failures = attest.Failures(refused)
	}
	if err := send(c, v); err != nil {
		return nil, errors.Join(refused, err)
	}
	return peer, refused
}

// appraise judges what the peer showed; a side that does not ask ignores it.
func (c Config) appraise(ev *tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
	if c.Appraise == nil {
		return nil, nil
	}
	if ev == nil {
		return nil, tee.Refuse("", tee.CodeBinding, "evidence", "the peer's evidence", "none", "the peer runs in no TEE, or shows no evidence")
	}
	v, err := c.Appraise(*ev, reportData)
	if err == nil && v == nil {
		err = fmt.Errorf("%w: no verdict on the peer", ErrChannel)
	}
	return v, err
}

// show makes this side's evidence, or none when there is no TEE: then the peer
// decides.
func (c Config) show(ctx context.Context, reportData [64]byte) (*tee.Evidence, error) {
	if c.Attester == nil {
		return nil, nil
	}
	ev, err := c.Attester.Evidence(ctx, reportData)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChannel, err)
	}
	return &ev, nil
}

func send(w io.Writer, v any) error {
	if err := frame.Write(w, v); err != nil {
		return fmt.Errorf("%w: %w", ErrChannel, err)
	}
	return nil
}

func receive(r io.Reader, v any) error {
	if err := frame.Read(r, MaxMessage, v); err != nil {
		return fmt.Errorf("%w: %w", ErrChannel, err)
	}
	return nil
}
