package refvalues_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/veraison/go-cose"
)

const usage = "1.3.6.1.4.1.311.76.59.1.2"

// realUVM is an endorsement of Microsoft's.
func realUVM(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certified is a key with its certificate.
type certified struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// certify makes a certificate for a key; without an issuer it is self-signed.
func certify(t testing.TB, key crypto.Signer, issuer *certified, c *x509.Certificate) *certified {
	t.Helper()
	by := &certified{key, c}
	if issuer != nil {
		by = issuer
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certified{key, cert}
}

func template(name string, isCA bool) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Example & Co"}},
		NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: isCA, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if isCA {
		c.KeyUsage = x509.KeyUsageCertSign
	} else {
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 76, 59, 1, 2}}
	}
	return c
}

// authority is a test chain: a root, an intermediate authority and a signer.
type authority struct{ root, sub, leaf *certified }

// newAuthority makes a chain whose templates were changed.
func newAuthority(t testing.TB, change func(root, sub, leaf *x509.Certificate)) *authority {
	t.Helper()
	root, sub, leaf := template("root", true), template("sub", true), template("leaf", false)
	if change != nil {
		change(root, sub, leaf)
	}
	a := &authority{root: certify(t, ecKey(t, elliptic.P384()), nil, root)}
	a.sub = certify(t, ecKey(t, elliptic.P256()), a.root, sub)
	a.leaf = certify(t, ecKey(t, elliptic.P256()), a.sub, leaf)
	return a
}

func (a *authority) chain() [][]byte {
	return [][]byte{a.leaf.cert.Raw, a.sub.cert.Raw, a.root.cert.Raw}
}

// did names the signers of a certificate's owner.
func did(c *certified, predicates ...string) string {
	sum := sha256.Sum256(c.cert.Raw)
	if len(predicates) == 0 {
		predicates = []string{"eku:" + usage}
	}
	return "did:x509:0:sha256:" + base64.RawURLEncoding.EncodeToString(sum[:]) + "::" + strings.Join(predicates, "::")
}

// endorsement is a message that is not signed yet.
type endorsement struct {
	alg         cose.Algorithm
	key         crypto.Signer
	protected   obj
	unprotected obj
	payload     []byte
}

// envelope is an endorsement in the form of today.
func (a *authority) envelope() *endorsement {
	return &endorsement{alg: cose.AlgorithmES256, key: a.leaf.key, payload: m48, unprotected: obj{}, protected: obj{
		1: -7, 15: obj{1: did(a.root), 2: "feed", 6: epoch(at), "svn": 7}, 33: a.chain(), 258: -43, 259: "application/octet-stream",
	}}
}

// json is one in the older form.
func (a *authority) json() *endorsement {
	return &endorsement{alg: cose.AlgorithmES256, key: a.leaf.key, payload: []byte(uvmJSON(`"7"`, "")), unprotected: obj{}, protected: obj{
		1: -7, 3: "application/json", 33: a.chain(), "iss": did(a.root), "feed": "feed", "signingtime": epoch(at),
	}}
}

func uvmJSON(svn, more string) string {
	return `{"x-ms-sevsnpvm-guestsvn": ` + svn + `, "x-ms-sevsnpvm-launchmeasurement": "` + hex.EncodeToString(m48) + `"` + more + `}`
}

func (e *endorsement) claims() obj { return e.protected[15].(obj) }

// sign encodes the message, whatever it says.
func (e *endorsement) sign(t testing.TB) []byte {
	t.Helper()
	return signRaw(t, e.alg, e.key, encode(t, e.protected), e.unprotected, e.payload)
}

func signRaw(t testing.TB, alg cose.Algorithm, key crypto.Signer, protected []byte, unprotected obj, payload []byte) []byte {
	t.Helper()
	s, err := cose.NewSigner(alg, key)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign(rand.Reader, encode(t, arr{"Signature1", protected, []byte{}, payload}))
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, tag{Number: 18, Content: arr{protected, unprotected, payload, sig}})
}

// trusts is the issuer of an authority's endorsements.
func (a *authority) trusts() refvalues.UVMIssuer {
	return refvalues.UVMIssuer{DID: did(a.root), Feed: "feed"}
}

// says is what both forms say.
func (a *authority) says() refvalues.UVM {
	return refvalues.UVM{Issuer: did(a.root), Feed: "feed", GuestSVN: 7, Measurement: m48, SignedAt: at}
}

// epoch is a time as CBOR has it.
func epoch(t time.Time) tag { return tag{Number: 1, Content: t.Unix()} }
