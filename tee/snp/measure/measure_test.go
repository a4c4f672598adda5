package measure_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee/snp/measure"
)

// vector is a digest that virtee/sev-snp-measure computes: see testdata/vectors.py.
type vector struct {
	Firmware       string      `json:"firmware"`
	FirmwareDigest string      `json:"firmware_digest"`
	VCPUs          int         `json:"vcpus"`
	CPU            string      `json:"cpu"`
	Features       uint64      `json:"features"`
	VMM            measure.VMM `json:"vmm"`
	Kernel         []string    `json:"kernel"` // image, initrd, command line
	Digest         string      `json:"digest"`
	Published      bool        `json:"published"` // in the tests of that program
}

func (v vector) guest(t testing.TB) measure.Guest {
	t.Helper()
	g := measure.Guest{Firmware: firmware(t, v.Firmware), VCPUs: v.VCPUs, Features: v.Features, VMM: v.VMM}
	if v.CPU != "" {
		var err error
		if g.CPU, err = measure.ParseCPU(v.CPU); err != nil {
			t.Fatal(err)
		}
	}
	if v.FirmwareDigest != "" {
		b, err := hex.DecodeString(v.FirmwareDigest)
		if err != nil {
			t.Fatal(err)
		}
		d := measure.Digest(b)
		g.FirmwareDigest = &d
	}
	if v.Kernel != nil {
		g.Kernel = &measure.Kernel{Image: []byte(v.Kernel[0]), Initrd: []byte(v.Kernel[1]), CommandLine: v.Kernel[2]}
	}
	return g
}

func firmware(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var all []vector
	if err := json.Unmarshal(firmware(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLaunch: what another program computes of the same guest.
func TestLaunch(t *testing.T) {
	published, shapes := 0, map[string]bool{}
	for i, v := range vectors(t) {
		got, err := measure.Launch(v.guest(t))
		if err != nil || hex.EncodeToString(got[:]) != v.Digest {
			t.Errorf("%d: %x, %v, want %+v", i, got, err, v)
		}
		shapes[v.Digest] = true
		if v.Published {
			published++
		}
	}
	if len(shapes) < 30 || published < 16 {
		t.Errorf("%d shapes, %d published", len(shapes), published)
	}
}

// TestEveryPartCounts: whatever is changed of a guest, its digest is another, but for
// what its hypervisor ignores.
func TestEveryPartCounts(t *testing.T) {
	base := func() measure.Guest {
		return measure.Guest{
			Firmware: firmware(t, "AmdSev-end.bin"), VCPUs: 2, CPU: measure.MakeCPU(25, 1, 1), Features: 1, VMM: measure.QEMU,
			Kernel: &measure.Kernel{Image: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"},
		}
	}
	seen := map[measure.Digest]string{}
	for name, change := range map[string]func(*measure.Guest){
		"nothing":         func(*measure.Guest) {},
		"a processor":     func(g *measure.Guest) { g.VCPUs = 3 },
		"other CPU":       func(g *measure.Guest) { g.CPU = measure.MakeCPU(25, 1, 2) },
		"a feature":       func(g *measure.Guest) { g.Features |= 1 << 5 },
		"hypervisor":      func(g *measure.Guest) { g.VMM = measure.EC2 },
		"another one":     func(g *measure.Guest) { g.VMM = measure.GCE },
		"no kernel":       func(g *measure.Guest) { g.Kernel = nil },
		"kernel":          func(g *measure.Guest) { g.Kernel.Image[0] ^= 1 },
		"initrd":          func(g *measure.Guest) { g.Kernel.Initrd = nil },
		"command line":    func(g *measure.Guest) { g.Kernel.CommandLine += " " },
		"firmware":        func(g *measure.Guest) { g.Firmware[0] ^= 1 },
		"longer firmware": func(g *measure.Guest) { g.Firmware = append(make([]byte, 4096), g.Firmware...) },
	} {
		g := base()
		change(&g)
		d, err := measure.Launch(g)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if other, taken := seen[d]; taken {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
		// With the firmware's own digest its pages are not looked at, and the digest is
		// the same.
		pages, err := measure.FirmwareDigest(g.Firmware)
		if err != nil {
			t.Fatal(err)
		}
		g.FirmwareDigest = &pages
		if again, err := measure.Launch(g); err != nil || again != d {
			t.Errorf("%s, from the firmware's digest: %x, %v", name, again, err)
		}
	}
}

func TestLaunchRefuses(t *testing.T) {
	good := func() measure.Guest {
		return measure.Guest{Firmware: firmware(t, "AmdSev-end.bin"), VCPUs: 1, Features: 1, VMM: measure.QEMU}
	}
	for text, change := range map[string]func(*measure.Guest){
		"0 virtual processors":   func(g *measure.Guest) { g.VCPUs = 0 },
		"513 virtual processors": func(g *measure.Guest) { g.VCPUs = 513 },
		`hypervisor ""`:          func(g *measure.Guest) { g.VMM = "" },
		`hypervisor "xen"`:       func(g *measure.Guest) { g.VMM = "xen" },
		"bit 0":                  func(g *measure.Guest) { g.Features = 2 },
		"0 bytes":                func(g *measure.Guest) { g.Firmware = nil },
		"100 bytes":              func(g *measure.Guest) { g.Firmware = g.Firmware[:100] },
		"no table":               func(g *measure.Guest) { g.Firmware = make([]byte, 4096) },
		"AmdSev build": func(g *measure.Guest) {
			g.Firmware, g.Kernel = firmware(t, "OvmfX64-end.bin"), &measure.Kernel{Image: []byte("kernel")}
		},
		"a zero in it": func(g *measure.Guest) { g.Kernel = &measure.Kernel{CommandLine: "a\x00b"} },
	} {
		g := good()
		change(&g)
		if d, err := measure.Launch(g); !errors.Is(err, measure.ErrGuest) || !strings.Contains(fmt.Sprint(err), text) || d != (measure.Digest{}) {
			t.Errorf("%s: %x, %v", text, d, err)
		}
	}
}

// entry is an entry of a firmware's table.
func entry(name string, data ...uint32) []byte {
	var b []byte
	for _, n := range data {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	id, _ := hex.DecodeString(name)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(b)+18))
	return append(b, id...)
}

// Names of entries, as they lie in memory.
const (
	tableName    = "de82b596b21ff745baeaa366c55a082d"
	metadataName = "666588dc4a989847a75e5585a7bf67cc"
	resetName    = "de71f7007e1acb4f890e68c77e2fb44e"
)

// built is a firmware of a test's own with such sections: address, size, kind each.
func built(metadata []uint32, entries ...[]byte) []byte {
	page := make([]byte, 4096)
	at := 1024
	for i, n := range metadata {
		binary.LittleEndian.PutUint32(page[at+4*i:], n)
	}
	table := entry(metadataName, uint32(len(page)-at))
	for _, e := range entries {
		table = append(table, e...)
	}
	id, _ := hex.DecodeString(tableName)
	table = binary.LittleEndian.AppendUint16(table, uint16(len(table)+18))
	table = append(table, id...)
	copy(page[len(page)-32-len(table):], table)
	return page
}

const asev = 0x56455341 // "ASEV"

func TestParseFirmware(t *testing.T) {
	f, err := measure.ParseFirmware(built([]uint32{asev, 28, 1, 1, 0x800000, 0x2000, 1}, entry(resetName, 0x80B004)))
	if err != nil || len(f.Sections) != 1 || f.Sections[0] != (measure.Section{Address: 0x800000, Size: 0x2000, Kind: measure.SectionMemory}) || f.ResetEIP != 0x80B004 || f.KernelHashes != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	for text, b := range map[string][]byte{
		"another version":  built([]uint32{asev, 28, 2, 1, 0x800000, 0x2000, 1}),
		"of another":       built([]uint32{asev + 1, 28, 1, 1, 0x800000, 0x2000, 1}),
		"1 sections in 27": built([]uint32{asev, 27, 1, 1, 0x800000, 0x2000, 1}),
		"65 sections":      built([]uint32{asev, 1000, 1, 65}),
		"in 4000 bytes":    built([]uint32{asev, 4000, 1, 1, 0x800000, 0x2000, 1}),
		"at 0x800001":      built([]uint32{asev, 28, 1, 1, 0x800001, 0x2000, 1}),
		"8193 bytes at":    built([]uint32{asev, 28, 1, 1, 0x800000, 0x2001, 1}),
		"0 bytes at":       built([]uint32{asev, 28, 1, 1, 0x800000, 0, 1}),
		"4294963200 bytes": built([]uint32{asev, 28, 1, 1, 0x800000, 0xFFFFF000, 1}),
		"unknown kind 9":   built([]uint32{asev, 28, 1, 1, 0x800000, 0x1000, 9}),
		"entry twice":      built([]uint32{asev, 16, 1, 0}, entry(resetName, 1), entry(resetName, 2)),
		"lies outside":     built([]uint32{asev, 16, 1, 0})[:4096],
	} {
		if text == "lies outside" {
			i := bytes.Index(b, func() []byte { id, _ := hex.DecodeString(metadataName); return id }())
			binary.LittleEndian.PutUint32(b[i-6:], 5000)
		}
		if f, err := measure.ParseFirmware(b); !errors.Is(err, measure.ErrGuest) || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
	}
	if _, err := measure.Launch(measure.Guest{Firmware: built([]uint32{asev, 16, 1, 0}), VCPUs: 2, Features: 1, VMM: measure.QEMU}); !strings.Contains(fmt.Sprint(err), "further processors") {
		t.Error(err)
	}
}

func TestParseCPU(t *testing.T) {
	for name, want := range map[string]measure.CPU{"EPYC": 0x800F12, "EPYC-v4": 0x800F12, "EPYC-Rome-v2": 0x830F10, "EPYC-Milan": 0xA00F11, "EPYC-Genoa-v1": 0xA10F10, "EPYC-Turin": 0xB00F00} {
		if got, err := measure.ParseCPU(name); err != nil || got != want {
			t.Errorf("%s: %#x, %v, want %#x", name, got, err, want)
		}
	}
	for _, name := range []string{"", "-v1", "EPYC-v0", "EPYC-v10", "EPYC-vx", "Opteron", "epyc"} {
		if got, err := measure.ParseCPU(name); !errors.Is(err, measure.ErrGuest) || got != 0 {
			t.Errorf("%q: %#x, %v", name, got, err)
		}
	}
}

// FuzzParseFirmware: whatever the file, it is refused, or has sections that can be
// measured.
func FuzzParseFirmware(f *testing.F) {
	for _, name := range []string{"AmdSev-end.bin", "OvmfX64-end.bin"} {
		b := firmware(f, name)
		f.Add(b[len(b)-1024:])
	}
	small := built([]uint32{asev, 28, 1, 1, 0x800000, 0x2000, 1}, entry(resetName, 0x80B004))
	f.Add(small[1024:])
	f.Fuzz(func(t *testing.T, end []byte) {
		if len(end) > 4096 {
			return
		}
		b := append(make([]byte, 4096-len(end)), end...)
		fw, err := measure.ParseFirmware(b)
		if err != nil {
			if !errors.Is(err, measure.ErrGuest) {
				t.Fatalf("got %v, want ErrGuest", err)
			}
			return
		}
		for _, s := range fw.Sections {
			if s.Size == 0 || s.Size%4096 != 0 || s.Address%4096 != 0 {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func Example() {
	end, err := os.ReadFile("testdata/AmdSev-end.bin") // of an OVMF image
	if err != nil {
		fmt.Println(err)
		return
	}
	digest, err := measure.Launch(measure.Guest{
		Firmware: end, VCPUs: 4, CPU: measure.CPUs()["EPYC-Milan"], Features: 1, VMM: measure.QEMU,
		Kernel: &measure.Kernel{Image: []byte("bzImage"), Initrd: []byte("initrd"), CommandLine: "console=ttyS0"},
	})
	fmt.Printf("%.8x %v\n", digest, err)
	// Output: 6e39b9d0becf5181 <nil>
}
