package eif_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"
	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/tee/nitro/eif"
)

func some() eif.Image {
	return eif.Image{Kernel: []byte("kernel"), CommandLine: "console=ttyS0", RAMDisks: [][]byte{[]byte("init"), []byte("program")}, Metadata: []byte(`{"ImageName":"x"}`)}
}

func encoded(t testing.TB, i eif.Image) []byte {
	t.Helper()
	b, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sum sets the checksum of altered bytes.
func sum(b []byte) []byte {
	c := crc32.Update(crc32.ChecksumIEEE(b[:544]), crc32.IEEETable, b[548:])
	binary.BigEndian.PutUint32(b[544:], c)
	return b
}

// TestVectors: images that AWS's builder has made are read, made again byte for byte,
// and have the registers that it prints.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Name, Image            string // base64, as []byte is
		PCR0, PCR1, PCR2, PCR8 string
	}
	var raw []map[string]any
	if err := errors.Join(json.Unmarshal(b, &all), json.Unmarshal(b, &raw)); err != nil || len(all) < 6 {
		t.Fatal(len(all), err)
	}
	signed := 0
	for n, v := range all {
		file := bytesOf(t, raw[n]["Image"])
		i, err := eif.Parse(file)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if again := encoded(t, i); !bytes.Equal(again, file) {
			t.Errorf("%s: other bytes when it is made again", v.Name)
		}
		p, err := eif.Measure(i)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if v.PCR8 == "" {
			v.PCR8 = strings.Repeat("0", 96)
		} else {
			signed++
		}
		got := []string{hex.EncodeToString(p.PCR0[:]), hex.EncodeToString(p.PCR1[:]), hex.EncodeToString(p.PCR2[:]), hex.EncodeToString(p.PCR8[:])}
		if d := cmp.Diff([]string{v.PCR0, v.PCR1, v.PCR2, v.PCR8}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", v.Name, d)
		}
	}
	if signed < 2 {
		t.Errorf("%d are signed", signed)
	}
}

func bytesOf(t *testing.T, v any) (b []byte) {
	t.Helper()
	text, err := json.Marshal(v)
	if err := errors.Join(err, json.Unmarshal(text, &b)); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestProperty: what goes in comes out, and each part counts where it should.
func TestProperty(t *testing.T) {
	part := rapid.SliceOfN(rapid.Byte(), 1, 50)
	rapid.Check(t, func(t *rapid.T) {
		i := eif.Image{
			Architecture: eif.Architecture(rapid.IntRange(0, 1).Draw(t, "architecture")), Kernel: part.Draw(t, "kernel"),
			CommandLine: rapid.StringMatching(`[a-z =]{0,30}`).Draw(t, "cmdline"), RAMDisks: rapid.SliceOfN(part, 1, 28).Draw(t, "disks"), Metadata: part.Draw(t, "metadata"),
		}
		b, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := eif.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(i, got); d != "" {
			t.Fatal(d)
		}
		p, err := eif.Measure(got)
		if err != nil || p.PCR8 != (eif.PCR{}) {
			t.Fatal(p, err)
		}
		for name, c := range map[string]struct {
			change        func(*eif.Image)
			in0, in1, in2 bool
		}{
			"kernel":       {func(i *eif.Image) { i.Kernel = append(bytes.Clone(i.Kernel), 0) }, true, true, false},
			"command line": {func(i *eif.Image) { i.CommandLine += "x" }, true, true, false},
			"one more":     {func(i *eif.Image) { i.RAMDisks = append(slices.Clip(i.RAMDisks), []byte{1}) }, true, false, true},
			"metadata":     {func(i *eif.Image) { i.Metadata = nil }, false, false, false},
			"architecture": {func(i *eif.Image) { i.Architecture = 1 - i.Architecture }, false, false, false},
		} {
			other := i
			c.change(&other)
			q, err := eif.Measure(other)
			if err != nil || (q.PCR0 != p.PCR0) != c.in0 || (q.PCR1 != p.PCR1) != c.in1 || (q.PCR2 != p.PCR2) != c.in2 {
				t.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func TestParseRefuses(t *testing.T) {
	good := encoded(t, some())
	altered := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return sum(b)
	}
	disk := 548 + 12 + len("kernel") + 12 + len("console=ttyS0") + 12 + len(`{"ImageName":"x"}`) // the first one
	for text, b := range map[string][]byte{
		"does not begin":        []byte("x"),
		"begin as one":          altered(0, 'x'),
		"version 1":             altered(5, 1),
		"version 5":             altered(5, 5),
		"1 parts":               altered(27, 1),
		"33 parts":              altered(27, 33),
		"architecture 2":        altered(7, 2),
		"altered or cut off":    good[:len(good)-1],
		"part 0 is not":         altered(35, 1),
		"part 1 is not":         altered(284+8+7, 1),
		"part 4 is not":         altered(284+8*4, 0xFF),
		"4 bytes behind":        sum(append(bytes.Clone(good), 1, 2, 3, 4)),
		"unknown kind 6":        altered(disk+1, 6),
		"unknown kind 0":        altered(disk+1, 0),
		"one kernel":            altered(disk+1, 1),
		"at most one signature": altered(548+12+len("kernel")+12+len("console=ttyS0")+1, 2),
		"before the kernel":     altered(549, 3),
	} {
		if i, err := eif.Parse(b); !errors.Is(err, eif.ErrImage) || !strings.Contains(fmt.Sprint(err), text) || i.Kernel != nil && err == nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for n := range good {
		if _, err := eif.Parse(good[:n]); !errors.Is(err, eif.ErrImage) {
			t.Fatalf("%d of %d bytes: %v", n, len(good), err)
		}
		b := bytes.Clone(good)
		b[n] ^= 1
		if _, err := eif.Parse(b); !errors.Is(err, eif.ErrImage) {
			t.Fatalf("byte %d altered: %v", n, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for text, change := range map[string]func(*eif.Image){
		"no kernel": func(i *eif.Image) { i.Kernel = nil }, "no RAM disk": func(i *eif.Image) { i.RAMDisks = nil }, "an empty one": func(i *eif.Image) { i.RAMDisks[1] = nil },
		"a zero in it": func(i *eif.Image) { i.CommandLine = "a\x00" }, "33 parts": func(i *eif.Image) { i.RAMDisks = slicesOf(30) }, "architecture 2": func(i *eif.Image) { i.Architecture = 2 },
		"a signature of 32769": func(i *eif.Image) { i.Signature = make([]byte, 32769) },
	} {
		i := some()
		change(&i)
		_, err1 := i.Encode()
		_, err2 := eif.Measure(i)
		for _, err := range []error{err1, err2} {
			if !errors.Is(err, eif.ErrImage) || !strings.Contains(fmt.Sprint(err), text) {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

func slicesOf(n int) (out [][]byte) {
	for range n {
		out = append(out, []byte("x"))
	}
	return out
}

// signer signs images.
type signer struct {
	key         *ecdsa.PrivateKey
	algorithm   cose.Algorithm
	certificate []byte // DER
}

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, cose.AlgorithmES384, der}
}

func list(b []byte) (out []uint16) {
	for _, v := range b {
		out = append(out, uint16(v))
	}
	return out
}

// sign is a signature section of a register's value.
func (s signer) sign(t testing.TB, index int, value []byte) []byte {
	t.Helper()
	payload, err := cbor.Marshal(map[string]any{"register_index": index, "register_value": list(value)})
	if err != nil {
		t.Fatal(err)
	}
	by, err := cose.NewSigner(s.algorithm, s.key)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.UntaggedSign1Message{Headers: cose.Headers{Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: s.algorithm}}, Payload: payload}
	if err := (*cose.Sign1Message)(&m).Sign(rand.Reader, nil, by); err != nil {
		t.Fatal(err)
	}
	message, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate})
	b, err := cbor.Marshal([]any{struct {
		Certificate []uint16 `cbor:"signing_certificate"`
		Signature   []uint16 `cbor:"signature"`
	}{list(block), list(message)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSigned: register 8 is of the certificate; a signature of another image, by
// another key or altered is none.
func TestSigned(t *testing.T) {
	s, i := newSigner(t), some()
	p, err := eif.Measure(i)
	if err != nil {
		t.Fatal(err)
	}
	i.Signature = s.sign(t, 0, p.PCR0[:])
	read, err := eif.Parse(encoded(t, i))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(s.certificate)
	want := sha512.Sum384(append(make([]byte, 48), digest[:]...))
	if q, err := eif.Measure(read); err != nil || q.PCR0 != p.PCR0 || q.PCR8 != want {
		t.Errorf("%x, %v", q.PCR8, err)
	}
	other := newSigner(t)
	other.certificate = s.certificate
	list, _ := cbor.Marshal([]any{})
	for text, signature := range map[string][]byte{
		"another image": s.sign(t, 0, make([]byte, 48)), "of another": s.sign(t, 1, p.PCR0[:]), "does not verify": other.sign(t, 0, p.PCR0[:]), "not a list": []byte("x"), "not a list of": list,
	} {
		i.Signature = signature
		if q, err := eif.Measure(i); !errors.Is(err, eif.ErrImage) || !strings.Contains(fmt.Sprint(err), text) || q != (eif.PCRs{}) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// An altered certificate may still have the key, and is another register 8.
	good := s.sign(t, 0, p.PCR0[:])
	message := bytes.LastIndex(good, []byte("signature"))
	for n := range good {
		i.Signature = bytes.Clone(good)
		i.Signature[n] ^= 1
		if q, err := eif.Measure(i); err == nil && n >= message || err != nil && !errors.Is(err, eif.ErrImage) {
			t.Fatalf("byte %d of %d altered: %x, %v", n, len(good), q.PCR8, err)
		}
	}
}

// FuzzParse: whatever the file, it is refused, or is an image that is read again, and
// measuring it does no harm.
func FuzzParse(f *testing.F) {
	good := encoded(f, some())
	f.Add(good)
	i := some()
	i.Signature = newSigner(f).sign(f, 0, make([]byte, 48))
	f.Add(encoded(f, i))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 548 {
			b = sum(bytes.Clone(b))
		}
		i, err := eif.Parse(b)
		if err != nil {
			if !errors.Is(err, eif.ErrImage) {
				t.Fatalf("got %v, want ErrImage", err)
			}
			return
		}
		if _, err := eif.Measure(i); err != nil && !errors.Is(err, eif.ErrImage) {
			t.Fatal(err)
		}
		again, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if j, err := eif.Parse(again); err != nil || !cmp.Equal(i, j) {
			t.Fatalf("%v", err)
		}
	})
}

func Example() {
	image := eif.Image{Kernel: []byte("bzImage"), CommandLine: "reboot=k panic=30", RAMDisks: [][]byte{[]byte("init.cpio"), []byte("program.cpio")}}
	pcrs, err := eif.Measure(image)
	fmt.Printf("%.8x %v\n", pcrs.PCR0, err)
	// Output: b2ed4394266d2bd4 <nil>
}
