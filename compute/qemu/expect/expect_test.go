package expect_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ulikunitz/xz/lzma"

	"github.com/cloister-cc/cloister/compute/qemu/expect"
)

// section is a section of a file, filled up to 4 bytes.
func section(kind byte, large bool, data ...[]byte) []byte {
	body := bytes.Join(data, nil)
	b := []byte{0, 0, 0, kind}
	if size := len(body) + 4; large {
		b = binary.LittleEndian.AppendUint32([]byte{0xFF, 0xFF, 0xFF, kind}, uint32(size+4))
	} else {
		b[0], b[1], b[2] = byte(size), byte(size>>8), byte(size>>16)
	}
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&3)...)
}

// file is a file of a volume, filled up to 8 bytes.
func file(kind byte, body []byte) []byte {
	h := make([]byte, 24)
	h[18] = kind
	size := len(h) + len(body)
	h[20], h[21], h[22] = byte(size), byte(size>>8), byte(size>>16)
	b := append(h, body...)
	return append(b, make([]byte, -len(b)&7)...)
}

// volume is a volume with a further header.
func volume(files ...[]byte) []byte {
	h := make([]byte, 72+24)
	copy(h[40:], "_FVH")
	binary.LittleEndian.PutUint16(h[48:], 72)
	binary.LittleEndian.PutUint16(h[52:], 72)
	binary.LittleEndian.PutUint32(h[72+16:], 24)
	b := append(h, bytes.Join(files, nil)...)
	b = append(b, bytes.Repeat([]byte{0xFF}, 64)...)
	binary.LittleEndian.PutUint64(b[32:], uint64(len(b)))
	return b
}

// packed is a section with sections packed with LZMA.
func packed(t testing.TB, sections ...[]byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w, err := lzma.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Join(sections, nil)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	guid, _ := hex.DecodeString(expect.LZMA)
	return section(2, false, guid, []byte{24, 0, 1, 0}, z.Bytes())
}

// image is firmware of a test's own.
func image(t testing.TB) []byte {
	t.Helper()
	body := packed(t, section(0x19, false, make([]byte, 5)), section(0x17, true, []byte("the PEI volume")), section(0x17, true, []byte("the DXE volume")))
	return append(volume(file(1, []byte("raw")), file(0x0B, body)), make([]byte, 100)...)
}

func TestUnpack(t *testing.T) {
	good := image(t)
	pei, dxe, err := expect.Unpack(good)
	if err != nil || string(pei) != "the PEI volume" || string(dxe) != "the DXE volume" {
		t.Fatalf("%q, %q, %v", pei, dxe, err)
	}
	altered := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	body := packed(t, section(0x17, true, []byte("one")))
	for text, b := range map[string][]byte{
		"does not begin":   []byte("x"),
		"begin with":       altered(40, 'x'),
		"cut off":          good[:200],
		"no header":        altered(53, 0xFF),
		"no file":          volume(file(1, []byte("raw"))),
		"nothing is":       volume(file(0x0B, section(0x19, false, []byte("x")))),
		"1 volumes":        volume(file(0x0B, body)),
		"unpack":           altered(bytes.Index(good, []byte{24, 0, 1, 0})+4, 0xFF),
		"a section of 3":   volume(file(0x0B, []byte{3, 0, 0, 0x19})),
		"at most 16777216": make([]byte, expect.MaxFirmware+1),
	} {
		if pei, dxe, err := expect.Unpack(b); err == nil || !strings.Contains(err.Error(), text) || pei != nil || dxe != nil {
			t.Errorf("%s: %q, %q, %v", text, pei, dxe, err)
		}
	}
}

// TestDebian: of the firmware of a Debian package, where it is, the DXE volume is what
// machines have measured.
func TestDebian(t *testing.T) {
	b, err := os.ReadFile(debianCode)
	if err != nil {
		t.Skip("no OVMF of Debian on this machine (apt-get install ovmf)")
	}
	digest := sha256.Sum256(b)
	if _, known := expect.Known()[hex.EncodeToString(digest[:])]; !known {
		t.Skipf("this machine's OVMF is %x, and known are %v", digest, expect.Known())
	}
	pei, dxe, err := expect.Unpack(b)
	if got := fmt.Sprintf("%x", sha256.Sum256(dxe)); err != nil || len(pei) != 0xE0000 || got != "82a0445201cb49945461acc6ed78426700fb7e92819862edc55ba3ad4559b135" {
		t.Errorf("%d bytes, %s, %v", len(pei), got, err)
	}
	// What machines of this shape had, with a kernel and RAM disk of no matter which.
	p, err := expect.Of(expect.Guest{Firmware: b, MemoryMiB: 256, VCPUs: 1, Kernel: kernel(0x20F), Initrd: []byte("initrd"), CommandLine: "quiet"})
	if err != nil {
		t.Fatal(err)
	}
	for register, want := range map[int]string{
		0: "ce729d0e02d46cecb9baa54228e55d1be49de54981fe6485a59bf9b222bcc061", 1: "8e9d1fe23131f12d6a523e9c32eb3223d4dc25e14eb5fd60163e7ba8de0f248c",
		2: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969", 5: "a5ceb755d043f32431d63e39f5161464620a3437280494b5850dc1b47cc074e0",
		7: "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068", 8: strings.Repeat("00", 32),
	} {
		if got := hex.EncodeToString(p[register][:]); got != want {
			t.Errorf("PCR %d: %s, want %s", register, got, want)
		}
	}
	if m := p.Measurement(); len(m) != 32 {
		t.Errorf("measurement %x", m)
	}
}

// kernel is a kernel's file of a test's own: a header of Linux, and one of PE.
func kernel(version uint16) []byte {
	k := make([]byte, 4096)
	copy(k[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(k[0x206:], version)
	binary.LittleEndian.PutUint32(k[0x22C:], 0x7FFFFFFF)
	binary.LittleEndian.PutUint32(k[0x3C:], 0x40)
	copy(k[0x40:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(k[0x58:], 0x20B)
	return k
}

func TestHandedOver(t *testing.T) {
	for _, c := range []struct {
		mib, initrd int
		high        bool // the kernel takes a RAM disk anywhere below 4 GiB
		want        uint32
	}{
		{256, 1727231, false, 0x0FE32000}, {2048, 5000, false, 0x7FFD6000}, {2815, 4096, false, 0x7FFFE000}, {2815, 4096, true, 0xAFED6000}, {2816, 4096, true, 0x7FFD6000}, {8192, 1, false, 0x7FFD7000},
	} {
		k := kernel(0x20F)
		if c.high {
			k[0x236] = 2
		}
		got, err := expect.HandedOver(expect.Guest{Kernel: k, Initrd: make([]byte, c.initrd), MemoryMiB: c.mib})
		if err != nil || binary.LittleEndian.Uint32(got[0x218:]) != c.want || binary.LittleEndian.Uint32(got[0x21C:]) != uint32(c.initrd) || got[0x210] != 0xB0 || got[0x211] != 0x80 {
			t.Errorf("%+v: %#x, %v", c, got[0x210:0x230], err)
		}
	}
	for text, g := range map[string]expect.Guest{
		"no bzImage": {Kernel: make([]byte, 4096), Initrd: []byte("x"), MemoryMiB: 256}, "0x20b": {Kernel: kernel(0x20B), Initrd: []byte("x"), MemoryMiB: 256},
		"does not fit": {Kernel: kernel(0x20F), Initrd: make([]byte, 200<<20), MemoryMiB: 128}, "bzImage of": {Kernel: []byte("HdrS"), Initrd: []byte("x"), MemoryMiB: 256},
	} {
		if _, err := expect.HandedOver(g); !errors.Is(err, expect.ErrGuest) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAuthenticode(t *testing.T) {
	k := kernel(0x20F)
	want, err := expect.Authenticode(k)
	if err != nil {
		t.Fatal(err)
	}
	const optional, signatures = 0x58, 0x58 + 112 + 32
	signed := bytes.Clone(k)
	binary.LittleEndian.PutUint32(signed[optional+64:], 0x12345678) // checksum
	binary.LittleEndian.PutUint32(signed[signatures:], uint32(len(k)))
	binary.LittleEndian.PutUint32(signed[signatures+4:], 16)
	signed = append(signed, make([]byte, 16)...)
	if got, err := expect.Authenticode(signed); err != nil || got != want {
		t.Errorf("signed: %x, %v, want %x", got, err, want)
	}
	for i := range k {
		if i >= 0x3C && i < 0x44 || i >= optional && i < optional+2 || i >= optional+64 && i < optional+68 || i >= signatures && i < signatures+8 {
			continue
		}
		b := bytes.Clone(k)
		b[i] ^= 1
		if got, err := expect.Authenticode(b); err != nil || got == want {
			t.Fatalf("byte %d does not count: %v", i, err)
		}
	}
	for n := range 300 {
		if _, err := expect.Authenticode(k[:n]); err == nil && n < signatures+8 || err != nil && !errors.Is(err, expect.ErrGuest) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := expect.Authenticode(append(signed, 0)); !errors.Is(err, expect.ErrGuest) || !strings.Contains(err.Error(), "not at its end") {
		t.Error(err)
	}
}

func TestOfRefuses(t *testing.T) {
	good := expect.Guest{Firmware: image(t), MemoryMiB: 256, VCPUs: 1, Kernel: kernel(0x20F), Initrd: []byte("x")}
	for text, change := range map[string]func(*expect.Guest){
		"64 MiB": func(g *expect.Guest) { g.MemoryMiB = 64 }, "0 processors": func(g *expect.Guest) { g.VCPUs = 0 }, "65 processors": func(g *expect.Guest) { g.VCPUs = 65 },
		"no initial": func(g *expect.Guest) { g.Initrd = nil }, "not known": func(*expect.Guest) {},
	} {
		g := good
		change(&g)
		if p, err := expect.Of(g); err == nil || !strings.Contains(err.Error(), text) || p != (expect.PCRs{}) || !errors.Is(err, expect.ErrGuest) && !errors.Is(err, expect.ErrFirmware) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestDifferences(t *testing.T) {
	var p expect.PCRs
	p[4][0], p[9][0] = 1, 1
	values := map[uint32][]byte{}
	for i := range uint32(10) {
		values[i] = make([]byte, 32)
	}
	delete(values, 2)
	got := fmt.Sprint(p.Differences(values))
	for _, text := range []string{"PCR 2 differs: firmware of devices (want 0000000000000000…, got none)", "PCR 4 differs: kernel", "PCR 9 differs: kernel command line"} {
		if !strings.Contains(got, text) {
			t.Errorf("%s: no %s", got, text)
		}
	}
	if n := len(p.Differences(values)); n != 3 || expect.Covers(10) != "not computed" {
		t.Errorf("%d differences", n)
	}
}

// FuzzUnpack: whatever the image, it is refused, or has two volumes.
func FuzzUnpack(f *testing.F) {
	f.Add(image(f))
	f.Add(volume(file(0x0B, packed(f))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pei, dxe, err := expect.Unpack(b); (err == nil) != (pei != nil && dxe != nil) {
			t.Fatalf("%d and %d bytes, %v", len(pei), len(dxe), err)
		}
	})
}

// FuzzAuthenticode: whatever the kernel, it is refused, or has a digest.
func FuzzAuthenticode(f *testing.F) {
	f.Add(kernel(0x20F))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := expect.Authenticode(b); (err == nil) != (d != [32]byte{}) || err != nil && !errors.Is(err, expect.ErrGuest) {
			t.Fatalf("%x, %v", d, err)
		}
	})
}

func Example() {
	firmware, err := os.ReadFile("/usr/share/OVMF/OVMF_CODE_4M.fd")
	if err != nil {
		return
	}
	pcrs, err := expect.Of(expect.Guest{
		Firmware: firmware, MemoryMiB: 512, VCPUs: 2, Kernel: kernel(0x20F), Initrd: []byte("initrd"), CommandLine: "console=ttyS0",
	})
	if err != nil {
		fmt.Println(err) // another build of OVMF
		return
	}
	fmt.Println("measurement:", pcrs.Measurement())
}

func ExamplePCRs_Differences() {
	var computed expect.PCRs // of a guest, by expect.Of
	measured := map[uint32][]byte{}
	for i := range uint32(expect.Registers) {
		measured[i] = make([]byte, 32)
	}
	measured[9][0] = 0xFF
	for _, d := range computed.Differences(measured) {
		fmt.Println(d)
	}
	// Output: PCR 9 differs: kernel command line, or initial RAM disk (want 0000000000000000…, got ff00000000000000)
}
