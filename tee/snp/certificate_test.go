package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestTurinCertificate reads a real VCEK of Turin, which has an FMC level and a
// chip id of 8 bytes, and checks its chain to the embedded root.
func TestTurinCertificate(t *testing.T) {
	der, err := os.ReadFile("../../../shared/vectors/attest/snp-turin-vcek-only/vcek.der")
	if err != nil {
		t.Skipf("no vectors: %v; this test needs ../shared/vectors/attest beside the repository", err)
	}
	v := New()
	a, failure := v.anchors.lookup(nil)
	if failure != nil {
		t.Fatal(failure)
	}
	l, failure := v.leaves.lookup(der, a)
	if failure != nil {
		t.Fatal(failure)
	}
	if l.cert.Product != Turin || l.cert.SigningKey != VCEK || len(l.cert.ChipID) != 8 || l.cert.CSPID != "" {
		t.Errorf("certificate %+v", l.cert)
	}
	o := &verdict{leaf: l}
	v.checkChain(o, nil, a, tee.Input{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if len(o.failures) > 0 {
		t.Error(o.failures)
	}
	der[len(der)-1] ^= 1
	l, _ = v.leaves.lookup(der, a)
	o = &verdict{leaf: l}
	v.checkChain(o, nil, a, tee.Input{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if len(o.failures) != 1 || o.failures[0].Code != tee.CodeChain {
		t.Errorf("altered certificate: %v", o.failures)
	}
}

// TestCertificate reads the VCEK in testdata.
func TestCertificate(t *testing.T) {
	der, err := os.ReadFile("testdata/milan-v3-vcek.der")
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseCertificate(c)
	if err != nil {
		t.Fatal(err)
	}
	chip, _ := hex.DecodeString("a3fdc2c64dc299ab90d4238973864b586378e2e5ef9c9d4dc608f3bdaa89a969a03f1b5752cad55a0c1547ade800dbd7404e9cb3f9738da3b280d1df69cf82e4")
	want := &certificate{SigningKey: VCEK, Product: Milan, ProductName: "Milan-B0", TCB: TCB{Bootloader: 4, SNP: 0x18, Microcode: 0xDB}, ChipID: chip, NotBefore: c.NotBefore, NotAfter: c.NotAfter}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(certificate{})); diff != "" {
		t.Error(diff)
	}
	if want := [8]byte{0: 4, 6: 0x18, 7: 0xDB}; got.tcb != want {
		t.Errorf("TCB %x, want %x", got.tcb, want)
	}
}

func TestParseChipID(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, 64)
	for name, c := range map[string]struct {
		product Product
		in      []byte
		want    int // bytes, 0 is refused
	}{
		"raw": {Milan, raw, 64}, "octet string": {Genoa, append([]byte{4, 64}, raw...), 64}, "Turin": {Turin, raw[:8], 8},
		"Turin octet string": {Turin, append([]byte{4, 8}, raw[:8]...), 8}, "Turin with 64": {Turin, raw, 0}, "Milan with 8": {Milan, raw[:8], 0},
		"other tag": {Milan, append([]byte{3, 64}, raw...), 0}, "other length": {Milan, append([]byte{4, 63}, raw...), 0}, "empty": {Milan, nil, 0},
	} {
		got := &certificate{Product: c.product}
		if err := got.parseChipID(c.in); (err == nil) != (c.want > 0) || len(got.ChipID) != c.want {
			t.Errorf("%s: %x, %v", name, got.ChipID, err)
		}
	}
}

func TestProductOfCPUID(t *testing.T) {
	for cpuid, want := range map[[3]byte]Product{
		{0x19, 0x01, 1}: Milan, {0x19, 0x00, 0}: Milan, {0x19, 0x11, 1}: Genoa, {0x19, 0xA0, 2}: Genoa, {0x1A, 0x02, 1}: Turin, {0x1A, 0x11, 0}: Turin,
		{0x19, 0x20, 0}: "", {0x17, 0x31, 0}: "", {0x1A, 0x12, 0}: "", {0, 0, 0}: "", {0x1A, 0x50, 0}: "",
	} {
		if got := productOfCPUID(cpuid); got != want {
			t.Errorf("%x: %q, want %q", cpuid, got, want)
		}
	}
}

// TestMemoIsBounded: the oldest goes when the memory is full.
func TestMemoIsBounded(t *testing.T) {
	var m memo[int]
	for i := range 10 {
		m.put(digest{byte(i)}, i, 4)
		m.put(digest{byte(i)}, i, 4) // again does not count
	}
	if len(m.results) != 4 || len(m.order) != 4 {
		t.Fatalf("%d results, %d in order, want 4", len(m.results), len(m.order))
	}
	for i := range 10 {
		if got, ok := m.get(digest{byte(i)}); ok != (i >= 6) || ok && got != i {
			t.Errorf("%d: %d %t", i, got, ok)
		}
	}
}
