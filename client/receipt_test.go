//go:build linux

package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// signer is a node's service key with evidence that vouches for it.
type signer struct {
	key      *ecdsa.PrivateKey
	spki     []byte
	evidence tee.Evidence
}

func newSigner(t *testing.T, p *softwaretest.Platform) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, spki, vouch(t, p, spki)}
}

// vouch makes the evidence of a node that its service key is spki.
func vouch(t *testing.T, p *softwaretest.Platform, spki []byte) tee.Evidence {
	t.Helper()
	in := p.Instance(t, launch.NewBuiltin(launch.RoleNode), nil, nil)
	t.Cleanup(func() { _ = in.Close() })
	ev, err := in.Evidence(t.Context(), client.ServiceKeyBinding(spki, nil))
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func (s signer) sign(t *testing.T, r keys.Receipt) client.SignedReceipt {
	t.Helper()
	digest := client.ReceiptSigningDigest(r)
	x, y, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	return client.SignedReceipt{Receipt: r, Signature: sig, Key: s.spki, Evidence: s.evidence}
}

func receipt() keys.Receipt {
	return keys.Receipt{
		Number: 7, Previous: make([]byte, 32), Time: "2026-03-01T12:00:00.000Z", Action: "release", Key: "app/key", Version: 2, Owner: bytes.Repeat([]byte{'o'}, 32),
		PolicyDigest: bytes.Repeat([]byte{'p'}, 32), TEE: "software", Simulated: true, Measurement: bytes.Repeat([]byte{'m'}, 32), LaunchDigest: bytes.Repeat([]byte{'l'}, 32),
		InstanceID: "i-1", EvidenceDigest: bytes.Repeat([]byte{'e'}, 32), Expires: "2026-03-01T13:00:00.000Z",
	}
}

func TestVerifyReceipt(t *testing.T) {
	p := softwaretest.New(t)
	node := newSigner(t, p)
	good := node.sign(t, receipt())
	if err := client.VerifyReceipt(good, p.Roots, attest.Development()); err != nil {
		t.Fatal(err)
	}
	other := newSigner(t, p)                       // another key that a node on this platform vouches for
	elsewhere := newSigner(t, softwaretest.New(t)) // and one of a platform that we do not know
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edSPKI, err := x509.MarshalPKIXPublicKey(edKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	altered := func(change func(*keys.Receipt)) func(*client.SignedReceipt) {
		return func(r *client.SignedReceipt) { change(&r.Receipt) }
	}
	cases := map[string]struct {
		change func(*client.SignedReceipt)
		code   tee.Code
	}{
		"number":                     {altered(func(r *keys.Receipt) { r.Number++ }), tee.CodeSignature},
		"previous":                   {altered(func(r *keys.Receipt) { r.Previous = bytes.Repeat([]byte{1}, 32) }), tee.CodeSignature},
		"time":                       {altered(func(r *keys.Receipt) { r.Time = "2027" + r.Time[4:] }), tee.CodeSignature},
		"action":                     {altered(func(r *keys.Receipt) { r.Action = "renew" }), tee.CodeSignature},
		"key":                        {altered(func(r *keys.Receipt) { r.Key = "app/other" }), tee.CodeSignature},
		"version":                    {altered(func(r *keys.Receipt) { r.Version++ }), tee.CodeSignature},
		"owner":                      {altered(func(r *keys.Receipt) { r.Owner = nil }), tee.CodeSignature},
		"policy":                     {altered(func(r *keys.Receipt) { r.PolicyDigest = make([]byte, 32) }), tee.CodeSignature},
		"simulated":                  {altered(func(r *keys.Receipt) { r.Simulated = false }), tee.CodeSignature},
		"measurement":                {altered(func(r *keys.Receipt) { r.Measurement = make([]byte, 32) }), tee.CodeSignature},
		"instance":                   {altered(func(r *keys.Receipt) { r.InstanceID = "" }), tee.CodeSignature},
		"expiry":                     {altered(func(r *keys.Receipt) { r.Expires = "" }), tee.CodeSignature},
		"signature":                  {func(r *client.SignedReceipt) { r.Signature[40] ^= 1 }, tee.CodeSignature},
		"no signature":               {func(r *client.SignedReceipt) { r.Signature = nil }, tee.CodeSignature},
		"zero":                       {func(r *client.SignedReceipt) { r.Signature = make([]byte, 64) }, tee.CodeSignature},
		"other half":                 {func(r *client.SignedReceipt) { r.Signature = append(r.Signature[32:], r.Signature[:32]...) }, tee.CodeSignature},
		"DER signature":              {func(r *client.SignedReceipt) { r.Signature = append([]byte{0x30}, r.Signature...) }, tee.CodeSignature},
		"other key, own signature":   {func(r *client.SignedReceipt) { r.Key = other.spki }, tee.CodeBinding},
		"other key, other signature": {func(r *client.SignedReceipt) { r.Key, r.Signature = other.spki, other.sign(t, r.Receipt).Signature }, tee.CodeBinding},
		"own key, other signature":   {func(r *client.SignedReceipt) { r.Signature = other.sign(t, r.Receipt).Signature }, tee.CodeSignature},
		"evidence for another key":   {func(r *client.SignedReceipt) { r.Evidence = other.evidence }, tee.CodeBinding},
		"a node of another platform": {func(r *client.SignedReceipt) { *r = elsewhere.sign(t, r.Receipt) }, tee.CodeChain},
		"key of another kind":        {func(r *client.SignedReceipt) { r.Key, r.Evidence = edSPKI, vouch(t, p, edSPKI) }, tee.CodeSignature},
		"evidence that is not any":   {func(r *client.SignedReceipt) { r.Evidence.Data = []byte("x") }, ""},
		"no evidence":                {func(r *client.SignedReceipt) { r.Evidence = tee.Evidence{} }, ""},
		"evidence of another kind":   {func(r *client.SignedReceipt) { r.Evidence.Kind = tee.SNP }, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := good
			r.Signature = bytes.Clone(good.Signature)
			c.change(&r)
			err := client.VerifyReceipt(r, p.Roots, attest.Development())
			if !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("got %v, want it not verified", err)
			}
			if codes := attest.Codes(err); c.code != "" && (len(codes) == 0 || codes[0] != c.code) {
				t.Errorf("codes %v, want %s", codes, c.code)
			}
		})
	}
	// A key that does not parse, though a node vouches for it.
	r := good
	r.Key = []byte("not a key")
	r.Evidence = vouch(t, p, r.Key)
	if err := client.VerifyReceipt(r, p.Roots, attest.Development()); err == nil {
		t.Error("a receipt of no key at all is accepted")
	}
}

func TestVerifyReceiptUnderAPolicy(t *testing.T) {
	p := softwaretest.New(t)
	good := newSigner(t, p).sign(t, receipt())
	otherCode := attest.Development()
	otherCode.Measurements = []string{tee.Measurement(make([]byte, 32)).String()}
	hardware := attest.HardwareDefault()
	for name, c := range map[string]struct {
		roots  tee.Roots
		policy attest.Policy
		want   error
	}{
		"another measurement": {p.Roots, otherCode, attest.ErrRefused},
		"hardware only":       {p.Roots, hardware, attest.ErrRefused},
		"no roots":            {nil, attest.Development(), tee.ErrNotVerified},
		"no policy":           {p.Roots, attest.Policy{}, nil},
	} {
		if err := client.VerifyReceipt(good, c.roots, c.policy); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Certificates are judged by the clock of whoever checks; in the bubble's, two
// hundred years are nothing.
func TestVerifyReceiptExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := softwaretest.New(t)
		good := newSigner(t, p).sign(t, receipt())
		if err := client.VerifyReceipt(good, p.Roots, attest.Development()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * 365 * 24 * time.Hour) // of the bubble
		err := client.VerifyReceipt(good, p.Roots, attest.Development())
		if codes := attest.Codes(err); !errors.Is(err, tee.ErrNotVerified) || len(codes) == 0 || codes[0] != tee.CodeExpired {
			t.Errorf("got %v, want it expired", err)
		}
	})
}
