package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

// NodeConfig says which node to speak to and what it must prove.
type NodeConfig struct {
	// Address is host:port of the node's HTTPS face.
	Address string
	// Identity is the caller's key pair; nil for calls that need none.
	Identity *tls.Certificate
	// Roots are development roots, for a node on the software TEE; hardware
	// vendors' roots are built in.
	Roots tee.Roots
	// Policy is what the node's evidence must meet. The zero policy accepts none.
	Policy attest.Policy
	// Dial connects to Address; nil means TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Node is a client of a node. Every connection is an attested channel: the node
// has proven itself before anything is sent. It is safe for concurrent use.
type Node struct {
	http   *http.Client
	trust  trust
	closer func()
}

// trust is what this client believes.
type trust struct {
	roots     tee.Roots
	appraiser *attest.Appraiser
	verifier  *attest.Verifier
	grace     time.Duration
}

// NewNode returns a client. It does not connect yet.
func NewNode(cfg NodeConfig) (*Node, error) {
	t, err := newTrust(cfg.Roots, cfg.Policy)
	if err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := cfg.Dial(ctx, cfg.Address)
		if err != nil {
			return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "connect to the node", Err: err, Hint: "does the platform run? cloister up"}
		}
		return channel.Client(ctx, conn, cfg.Identity, channel.Config{Appraise: t.appraise, Timeout: dialTimeout})
	}
	transport := &http.Transport{DialTLSContext: dial, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}
	return &Node{http: &http.Client{Transport: transport}, trust: t, closer: transport.CloseIdleConnections}, nil
}

func newTrust(roots tee.Roots, p attest.Policy) (trust, error) {
	appraiser, err := attest.Compile(p)
	return trust{roots: roots, appraiser: appraiser, verifier: attest.NewVerifier(all.Verifiers()...), grace: p.Grace()}, err
}

// appraise is this client's verdict on evidence.
func (t trust) appraise(ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
	in := tee.Input{At: time.Now(), Grace: t.grace}
	if ev.Kind == tee.Software {
		in.Roots = t.roots
	}
	v, err := t.verifier.Verify(ev, in, attest.BindTo(reportData))
	if err != nil {
		return nil, err
	}
	return v, t.appraiser.Appraise(v)
}

// Close closes idle connections.
func (n *Node) Close() { n.closer() }

// Nonce asks for a nonce.
func (n *Node) Nonce(ctx context.Context) ([]byte, error) {
	var a Nonce
	err := n.call(ctx, http.MethodPost, "/v1/nonce", nil, &a)
	return a.Nonce, err
}

// Release asks for keys; only code inside a TEE can make such a request.
func (n *Node) Release(ctx context.Context, r keys.ReleaseRequest) (keys.ReleaseResponse, error) {
	var a keys.ReleaseResponse
	err := n.call(ctx, http.MethodPost, "/v1/release", r, &a)
	return a, err
}

// PutKey creates or imports a key.
func (n *Node) PutKey(ctx context.Context, k PutKey) (keys.Key, error) {
	var a keys.Key
	err := n.call(ctx, http.MethodPost, "/v1/keys", k, &a)
	return a, err
}

// Key describes one of the caller's keys.
func (n *Node) Key(ctx context.Context, name string) (keys.Key, error) {
	var a keys.Key
	err := n.call(ctx, http.MethodGet, "/v1/keys/"+namePath(name), nil, &a)
	return a, err
}

// Keys lists the caller's keys.
func (n *Node) Keys(ctx context.Context) ([]keys.Key, error) {
	var a []keys.Key
	err := n.call(ctx, http.MethodGet, "/v1/keys", nil, &a)
	return a, err
}

// Rotate gives a key a new version.
func (n *Node) Rotate(ctx context.Context, name string) (keys.Key, error) {
	var a keys.Key
	err := n.call(ctx, http.MethodPost, "/v1/rotate/"+namePath(name), nil, &a)
	return a, err
}

// SetPolicy replaces a key's release policy.
func (n *Node) SetPolicy(ctx context.Context, name string, p keys.Policy) (keys.Key, error) {
	var a keys.Key
	err := n.call(ctx, http.MethodPut, "/v1/policies/"+namePath(name), p, &a)
	return a, err
}

// Receipts lists receipts of the caller's keys with numbers above after, a page of
// them at most: see [Node.AllReceipts].
func (n *Node) Receipts(ctx context.Context, after uint64) ([]keys.Receipt, error) {
	var a []keys.Receipt
	err := n.call(ctx, http.MethodGet, "/v1/receipts?after="+strconv.FormatUint(after, 10), nil, &a)
	return a, err
}

// AllReceipts returns the receipts after a number, of all pages.
func (n *Node) AllReceipts(ctx context.Context, after uint64) ([]keys.Receipt, error) {
	all := []keys.Receipt{}
	for {
		page, err := n.Receipts(ctx, after)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return all, nil
		}
		all, after = append(all, page...), page[len(page)-1].Number
	}
}

// Receipt returns a signed receipt, verified.
func (n *Node) Receipt(ctx context.Context, number uint64) (SignedReceipt, error) {
	var a SignedReceipt
	if err := n.call(ctx, http.MethodGet, "/v1/receipts/"+strconv.FormatUint(number, 10), nil, &a); err != nil {
		return a, err
	}
	return a, n.trust.verifyReceipt(a)
}

// Attest has the node judge evidence that carries its nonce, and returns the
// attestation result (EAR JWT).
func (n *Node) Attest(ctx context.Context, r AttestRequest) (string, error) {
	var a AttestResult
	r.Format = "jwt"
	err := n.call(ctx, http.MethodPost, "/v1/attest", r, &a)
	return a.Token, err
}

// AttestCWT is [Node.Attest] with a CWT as its result.
func (n *Node) AttestCWT(ctx context.Context, r AttestRequest) ([]byte, error) {
	var a AttestResult
	r.Format = "cwt"
	err := n.call(ctx, http.MethodPost, "/v1/attest", r, &a)
	return a.CWT, err
}

// Identity asks the node to vouch for its service key, and verifies that.
func (n *Node) Identity(ctx context.Context) (Identity, error) {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return Identity{}, err
	}
	query := base64.RawURLEncoding.EncodeToString(nonce)
	var a Identity
	if err := n.call(ctx, http.MethodGet, "/v1/identity?nonce="+query, nil, &a); err != nil {
		return a, err
	}
	_, err := n.trust.appraise(a.Evidence, ServiceKeyBinding(a.Key, []byte(query)))
	return a, err
}

// JWKS returns the keys that the node's attestation results are signed with. The
// node is proven, so the keys are those of the code that the policy names.
func (n *Node) JWKS(ctx context.Context) (attest.KeySet, error) {
	var a attest.KeySet
	err := n.call(ctx, http.MethodGet, "/.well-known/jwks.json", nil, &a)
	return a, err
}

// TokenVerifier returns a verifier of the node's attestation results that still
// refuses everything: the caller says for which audience and under which policy
// a result is good.
func (n *Node) TokenVerifier(ctx context.Context) (attest.TokenVerifier, error) {
	set, err := n.JWKS(ctx)
	if err != nil {
		return attest.TokenVerifier{}, err
	}
	// The key that signs comes first, and names the issuer.
	return attest.TokenVerifier{Keys: set, Issuer: NodeIssuer(set.IDs()[0])}, nil
}

// NodeIssuer is the iss of the attestation results of the node whose service key
// has the thumbprint kid.
func NodeIssuer(kid string) string { return "cloister node " + kid }

// ServiceKeyBinding is the report data of evidence that vouches for a node's
// service key (SPKI DER): what it signed, it signed inside this code.
func ServiceKeyBinding(spki, nonce []byte) [64]byte {
	return tee.Bind("cloister node service key v1", spki, nonce)
}

// VerifyReceipt checks a receipt offline: the evidence is of a node that policy
// accepts, it vouches for the key, and the key signed the receipt. Certificates
// are judged by this machine's clock.
func VerifyReceipt(r SignedReceipt, roots tee.Roots, policy attest.Policy) error {
	t, err := newTrust(roots, policy)
	if err != nil {
		return err
	}
	return t.verifyReceipt(r)
}

func (t trust) verifyReceipt(r SignedReceipt) error {
	if _, err := t.appraise(r.Evidence, ServiceKeyBinding(r.Key, nil)); err != nil {
		return fmt.Errorf("verify receipt: %w", err)
	}
	pub, err := x509.ParsePKIXPublicKey(r.Key)
	if err != nil {
		return fmt.Errorf("verify receipt: %w", err)
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || len(r.Signature) != 64 {
		return tee.Refuse("", tee.CodeSignature, "signature", "ES256", "another kind", "")
	}
	digest := ReceiptSigningDigest(r.Receipt)
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(r.Signature[:32]), new(big.Int).SetBytes(r.Signature[32:])) {
		return tee.Refuse("", tee.CodeSignature, "signature", "the node's signature over this receipt", "another", "the receipt was altered")
	}
	return nil
}

// ReceiptSigningDigest is what a node signs of a receipt.
func ReceiptSigningDigest(r keys.Receipt) [32]byte {
	d := r.Digest()
	return sha256.Sum256([]byte("cloister receipt v1 " + hex.EncodeToString(d[:])))
}

func namePath(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// call makes a call with a JSON body and reads the JSON answer.
func (n *Node) call(ctx context.Context, method, path string, body, into any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return err
		}
		defer clear(b) // it may hold key material
	}
	resp, err := send(ctx, n.http, method, "https://node"+path, bytes.NewReader(b), "application/json")
	if err != nil {
		if _, ok := errors.AsType[*problem.Problem](err); !ok && errors.Is(err, context.DeadlineExceeded) {
			err = &tee.Error{Code: tee.CodeUnavailable, Op: "ask the node", Err: err}
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return decode(resp.Body, into)
}
