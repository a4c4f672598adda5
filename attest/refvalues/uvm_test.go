package refvalues_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"
)

// realUVMs are Microsoft's endorsements and what they say.
func realUVMs() map[string]refvalues.UVM {
	ms := refvalues.MicrosoftUVM()
	return map[string]refvalues.UVM{
		"uvm-envelope.cose": {
			Issuer: ms.DID, Feed: ms.Feed, GuestSVN: 104, SignedAt: time.Date(2025, 12, 22, 21, 11, 27, 0, time.UTC),
			Measurement: unhex("4904167aa9102a7557b97ac102469f50289d5be76036fcbb8107897ee146a6184772c4ea6e3f050a1bac6951c285bc89"),
		},
		"uvm-json.cose": {
			Issuer: ms.DID, Feed: ms.Feed, GuestSVN: 101, SignedAt: time.Date(2024, 11, 14, 5, 20, 59, 0, time.UTC),
			Measurement: unhex("5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1"),
		},
	}
}

func TestRealUVM(t *testing.T) {
	for name, want := range realUVMs() {
		b := realUVM(t, name)
		got, err := refvalues.VerifyUVM(b, refvalues.MicrosoftUVM())
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
		for _, other := range []refvalues.UVMIssuer{
			{}, {DID: want.Issuer}, {Feed: want.Feed}, {DID: want.Issuer, Feed: "ConfAKS-AMD-UVM"},
			{DID: strings.TrimSuffix(want.Issuer, "2") + "1", Feed: want.Feed}, // the signer has this usage too
			{DID: want.Issuer + "::eku:" + usage, Feed: want.Feed},
		} {
			if got, err := refvalues.VerifyUVM(b, other); err == nil || got.Measurement != nil {
				t.Errorf("%s: accepted for %+v", name, other)
			}
		}
	}
}

// TestSharedUVM is about the file that other areas use.
func TestSharedUVM(t *testing.T) {
	b, err := os.ReadFile("../../../shared/vectors/ledger/uvm_0.2.10.cose")
	if err != nil {
		t.Skipf("no vectors: %v; this test needs ../shared/vectors/ledger beside the repository", err)
	}
	if !bytes.Equal(b, realUVM(t, "uvm-envelope.cose")) {
		t.Error("not the file in testdata")
	}
}

// TestEveryFlipOfUVM changes every byte of real endorsements. What is accepted
// has to say the same, and may differ only in the header that is not signed: the
// receipt of the ledger in the newer one.
func TestEveryFlipOfUVM(t *testing.T) {
	flips := []byte{0x01, 0x80, 0xFF}
	all := os.Getenv("CLOISTER_ALL_MUTATIONS") != ""
	for name, want := range realUVMs() {
		good := realUVM(t, name)
		from := bytes.Index(good, []byte("application/octet-stream")) + len("application/octet-stream")
		to := bytes.Index(good, append([]byte{0x58, 48}, want.Measurement...))
		b := bytes.Clone(good)
		accepted := 0
		for i := range good {
			for j, flip := range flips {
				if !all && j != i%len(flips) {
					continue
				}
				b[i] ^= flip
				got, err := refvalues.VerifyUVM(b, refvalues.MicrosoftUVM())
				b[i] = good[i]
				if err != nil {
					continue
				}
				accepted++
				if !cmp.Equal(got, want) || i < from || i >= to {
					t.Fatalf("%s: accepted with another byte %d: %+v", name, i, got)
				}
			}
		}
		if accepted == 0 && name == "uvm-envelope.cose" {
			t.Errorf("no byte of the receipt could be changed: is it looked at?")
		}
	}
}

func TestUVMTruncated(t *testing.T) {
	for name := range realUVMs() {
		good := realUVM(t, name)
		for n := range good {
			if _, err := refvalues.VerifyUVM(good[:n], refvalues.MicrosoftUVM()); !errors.Is(err, refvalues.ErrFormat) {
				t.Fatalf("%s: %d bytes: %v", name, n, err)
			}
		}
	}
}

// TestUVMAccepts has what may vary.
func TestUVMAccepts(t *testing.T) {
	a := newAuthority(t, nil)
	never := a.says()
	never.SignedAt = time.Time{}
	pss := &certified{key: rsaKey(t)}
	b := *a
	b.leaf = certify(t, pss.key, a.sub, template("leaf", false))
	for name, c := range map[string]struct {
		a      *authority
		json   bool
		change func(*endorsement)
		want   refvalues.UVM
	}{
		"envelope":           {a, false, func(*endorsement) {}, a.says()},
		"JSON":               {a, true, func(*endorsement) {}, a.says()},
		"no time":            {a, false, func(e *endorsement) { delete(e.claims(), 6) }, never},
		"no time, JSON":      {a, true, func(e *endorsement) { delete(e.protected, "signingtime") }, never},
		"seconds":            {a, false, func(e *endorsement) { e.claims()[6] = at.Unix() }, a.says()},
		"number":             {a, true, func(e *endorsement) { e.payload = []byte(uvmJSON("7", "")) }, a.says()},
		"text and number":    {a, true, func(e *endorsement) { e.payload = []byte(uvmJSON(`"7"`, `,"x-ms-sevsnpvm-guestsvn-int":7`)) }, a.says()},
		"more members":       {a, true, func(e *endorsement) { e.payload = []byte(uvmJSON(`"7"`, `,"future":{"a":[1]}`)) }, a.says()},
		"unprotected header": {a, false, func(e *endorsement) { e.unprotected = obj{394: arr{m32}, "timestamp": m32} }, a.says()},
		"header not known":   {a, false, func(e *endorsement) { e.protected["x"], e.protected[260] = true, "https://example.com" }, a.says()},
		"critical and known": {a, false, func(e *endorsement) { e.protected[2] = arr{258, 259, 15} }, a.says()},
		"SHA-512 thumbprint": {a, false, func(e *endorsement) { e.protected[34] = arr{-44, sha512Of(a.leaf.cert.Raw)} }, a.says()},
		"PS256":              {&b, false, func(e *endorsement) { e.alg, e.protected[1] = cose.AlgorithmPS256, -37 }, b.says()},
		"PS512":              {&b, true, func(e *endorsement) { e.alg, e.protected[1] = cose.AlgorithmPS512, -39 }, b.says()},
	} {
		e := c.a.envelope()
		if c.json {
			e = c.a.json()
		}
		c.change(e)
		got, err := refvalues.VerifyUVM(e.sign(t), c.a.trusts())
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
	}
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestUVMAlgorithmOfKey declares all algorithms for the keys of others.
func TestUVMAlgorithmOfKey(t *testing.T) {
	a := newAuthority(t, nil)
	leaves := []*certified{a.leaf, certify(t, ecKey(t, elliptic.P384()), a.sub, template("leaf", false)), certify(t, ecKey(t, elliptic.P521()), a.sub, template("leaf", false)), certify(t, rsaKey(t), a.sub, template("leaf", false))}
	made := [][]cose.Algorithm{{-7}, {-35}, {-36}, {-37, -38, -39}}
	for i, leaf := range leaves {
		b := *a
		b.leaf = leaf
		for _, alg := range []cose.Algorithm{-7, -35, -36, -37, -38, -39, -8, -257, -65535, -5} {
			e := b.envelope()
			e.alg, e.protected[1] = made[i][0], int64(alg)
			fits := slices.Contains(made[i], alg)
			if fits {
				e.alg = alg
			}
			if _, err := refvalues.VerifyUVM(e.sign(t), b.trusts()); (err == nil) != fits || !fits && !strings.Contains(err.Error(), "algorithm") {
				t.Errorf("key %d, algorithm %d: %v", i, alg, err)
			}
		}
	}
}

// TestUVMResultIsOwn: the caller may reuse its buffer.
func TestUVMResultIsOwn(t *testing.T) {
	a := newAuthority(t, nil)
	b := a.envelope().sign(t)
	got, err := refvalues.VerifyUVM(b, a.trusts())
	clear(b)
	if err != nil || !bytes.Equal(got.Measurement, m48) {
		t.Errorf("%v, %x", err, got.Measurement)
	}
}

func TestUVMIssuerCheck(t *testing.T) {
	if err := refvalues.MicrosoftUVM().Check(); err != nil {
		t.Error(err)
	}
	ms := refvalues.MicrosoftUVM()
	for _, i := range []refvalues.UVMIssuer{{}, {DID: ms.DID}, {DID: "did:web:example.com", Feed: "f"}, {DID: ms.DID, Feed: strings.Repeat("f", 1025)}} {
		if err := i.Check(); !errors.Is(err, refvalues.ErrFormat) {
			t.Errorf("%+v: %v", i, err)
		}
	}
}
