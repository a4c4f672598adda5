package snp_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// TestRefusesReports has reports that a genuine key signed and that still do not
// do, with the codes of all that is wrong.
func TestRefusesReports(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	vcek, vlek := m.VCEK(t, snptest.KeyOptions{}), m.VLEK(t, snptest.KeyOptions{})
	cases := []struct {
		name   string
		key    *snptest.Key
		change func(*snp.Report)
		codes  []tee.Code
	}{
		{"version 1", vcek, func(r *snp.Report) { r.Version = 1 }, []tee.Code{tee.CodeUnsupported}},
		{"version 4", vcek, func(r *snp.Report) { r.Version = 4 }, []tee.Code{tee.CodeUnsupported}},
		{"version 6", vcek, func(r *snp.Report) { r.Version = 6 }, []tee.Code{tee.CodeUnsupported}},
		{"other chip", vcek, func(r *snp.Report) { r.ChipID[63] ^= 1 }, []tee.Code{tee.CodePlatform}},
		{"older TCB", vcek, func(r *snp.Report) { r.ReportedTCB[7]-- }, []tee.Code{tee.CodePlatform}},
		{"reserved TCB", vcek, func(r *snp.Report) { r.ReportedTCB[3]++ }, []tee.Code{tee.CodePlatform}},
		{"other TCB, VLEK", vlek, func(r *snp.Report) { r.ReportedTCB[0]++ }, []tee.Code{tee.CodePlatform}},
		{"other product", vcek, func(r *snp.Report) { r.CPUID[1] = 0x11 }, []tee.Code{tee.CodeProduct}},
		{"unknown product", vcek, func(r *snp.Report) { r.CPUID[0] = 0x50 }, []tee.Code{tee.CodeProduct}},
		{"no product", vcek, func(r *snp.Report) { r.CPUID = [3]byte{} }, []tee.Code{tee.CodeProduct}},
		{"signed by VCEK, says VLEK", vcek, func(r *snp.Report) { r.SigningKey = snp.VLEK }, []tee.Code{tee.CodePlatform}},
		{"signed by VLEK, says VCEK", vlek, func(r *snp.Report) { r.SigningKey = snp.VCEK }, []tee.Code{tee.CodePlatform}},
		{"says not signed", vcek, func(r *snp.Report) { r.SigningKey = 7 }, []tee.Code{tee.CodePlatform, tee.CodeSignature}},
		{"reserved signing key", vcek, func(r *snp.Report) { r.SigningKey = 2 }, []tee.Code{tee.CodePlatform, tee.CodeUnsupported}},
		{"mask chip key", vcek, func(r *snp.Report) { r.MaskChipKey = true }, []tee.Code{tee.CodeSignature}},
		{"host asked", vcek, func(r *snp.Report) { r.VMPL = 1<<32 - 1 }, []tee.Code{tee.CodeUnsupported}},
		{"everything at once", vcek, func(r *snp.Report) { r.CPUID[1] = 0x11; r.ChipID[0] ^= 1; r.VMPL = 4; r.MaskChipKey = true },
			[]tee.Code{tee.CodeProduct, tee.CodePlatform, tee.CodeUnsupported, tee.CodeSignature}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := c.key.Report()
			c.change(&r)
			refuses(t, c.key.Evidence(r), m.Input(), c.codes...)
		})
	}
}

func TestMaskedChip(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	r := k.Report()
	r.ChipID = [64]byte{}
	c, findings := verifies(t, k.Evidence(r), m.Input())
	if !slices.Contains(codesOf(findings), tee.CodePlatform) || len(c.Platform) != 128 || c.Platform == strings.Repeat("0", 128) {
		t.Errorf("platform %q, findings %v: want the chip of the VCEK and a finding", c.Platform, findings)
	}
	k = m.VLEK(t, snptest.KeyOptions{})
	r = k.Report()
	r.MaskChipKey = true // concerns the VCEK alone
	if c, findings := verifies(t, k.Evidence(r), m.Input()); slices.Contains(codesOf(findings), tee.CodePlatform) || c.Vendor["mask_chip_key"] != true {
		t.Errorf("findings %v, claims %v", findings, c.Vendor)
	}
}

func TestRefusesBytes(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	set := func(off int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[off:], v); return b }
	}
	cases := []struct {
		name   string
		change func([]byte) []byte
		code   tee.Code
	}{
		{"empty", func([]byte) []byte { return nil }, tee.CodeParse},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, tee.CodeParse},
		{"longer", func(b []byte) []byte { return append(b, 0) }, tee.CodeParse},
		{"padding of r", set(0x2A0+48, 1), tee.CodeParse},
		{"padding of s", set(0x2E8+71, 1), tee.CodeParse},
		{"padding at the end", set(snp.ReportSize-1, 1), tee.CodeParse},
		{"no algorithm", set(0x34, 0), tee.CodeUnsupported},
		{"zero signature", func(b []byte) []byte { clear(b[0x2A0:]); return b }, tee.CodeSignature},
		{"r and s of ones", set(0x2A0, bytes.Repeat([]byte{0xFF}, 48)...), tee.CodeSignature},
	}
	for _, c := range cases {
		ev := k.Evidence(k.Report())
		ev.Data = c.change(ev.Data)
		t.Run(c.name, func(t *testing.T) { refuses(t, ev, m.Input(), c.code) })
	}
	ev := k.Evidence(k.Report())
	for _, kind := range []tee.Kind{"", tee.Software, "sev-snp\x00"} {
		ev.Kind = kind
		refuses(t, ev, m.Input(), tee.CodeUnknownFormat)
	}
}

func TestRefusesInput(t *testing.T) {
	m, other := manufacturer(t, snp.Milan), snptest.New(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	ev := k.Evidence(k.Report())
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	with := func(roots ...*x509.Certificate) tee.Input { return tee.Input{Roots: roots, At: snptest.At} }
	cases := []struct {
		name  string
		in    tee.Input
		codes []tee.Code
	}{
		{"zero", tee.Input{}, []tee.Code{tee.CodeTime, tee.CodeChain}},
		{"no time", tee.Input{Roots: m.Roots()}, []tee.Code{tee.CodeTime}},
		{"embedded roots", tee.Input{At: snptest.At}, []tee.Code{tee.CodeChain}},
		{"no roots", tee.Input{Roots: tee.Roots{}, At: snptest.At}, []tee.Code{tee.CodeChain}},
		{"nil root", with(nil), []tee.Code{tee.CodeChain}},
		{"roots of equal names", other.Input(), []tee.Code{tee.CodeChain}},
		{"ASK without ARK", with(m.ASK.Certificate), []tee.Code{tee.CodeChain}},
		{"ASK under another ARK", with(m.ASK.Certificate, other.ARK.Certificate), []tee.Code{tee.CodeChain}},
		{"ARK without ASK", with(m.ARK.Certificate), []tee.Code{tee.CodeChain}},
		{"leaf as root", with(cert), []tee.Code{tee.CodeChain}},
		{"before", tee.Input{Roots: m.Roots(), At: cert.NotBefore.Add(-time.Second)}, []tee.Code{tee.CodeExpired}},
		{"after", tee.Input{Roots: m.Roots(), At: cert.NotAfter.Add(time.Second)}, []tee.Code{tee.CodeExpired}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refuses(t, ev, c.in, c.codes...) })
	}
	for _, at := range []time.Time{cert.NotBefore, cert.NotAfter} { // both ends belong to it
		verifies(t, ev, tee.Input{Roots: m.Roots(), At: at})
	}
}

func TestMissingCertificate(t *testing.T) {
	m := manufacturer(t, snp.Turin)
	k := m.VCEK(t, snptest.KeyOptions{ChipID: []byte{1, 2, 3, 4, 5, 6, 7, 8}})
	hint := func(change func(*snp.Report)) string {
		t.Helper()
		r := k.Report()
		change(&r)
		ev := k.Evidence(r)
		ev.Certificates = [][]byte{m.ASK.Certificate.Raw, m.ARK.Certificate.Raw}
		e := refuses(t, ev, m.Input(), tee.CodeCollateralMissing)
		return e.Failures[0].Hint
	}
	const url = "https://kdsintf.amd.com/vcek/v1/Turin/0102030405060708?fmcSPL=02&blSPL=04&teeSPL=01&snpSPL=24&ucodeSPL=219"
	if got := hint(func(*snp.Report) {}); !strings.Contains(got, url) {
		t.Errorf("hint %q, want %s", got, url)
	}
	for name, change := range map[string]func(*snp.Report){
		"VLEK": func(r *snp.Report) { r.SigningKey = snp.VLEK }, "masked chip": func(r *snp.Report) { r.ChipID = [64]byte{} },
	} {
		if got := hint(change); got == "" || strings.Contains(got, "kdsintf") {
			t.Errorf("%s: hint %q: there is no address for it", name, got)
		}
	}
	if got := hint(func(r *snp.Report) { r.Version = 2 }); !strings.Contains(got, "Milan") || !strings.Contains(got, "Genoa") {
		t.Errorf("version 2: hint %q, want both products", got)
	}
	ev := k.Evidence(k.Report())
	ev.Certificates = [][]byte{{0x30, 0x03, 1, 2, 3}, make([]byte, 17<<10)}
	refuses(t, ev, m.Input(), tee.CodeParse, tee.CodeCollateralMissing)
	ev.Certificates = slices.Repeat([][]byte{k.Certificate}, 17)
	refuses(t, ev, m.Input(), tee.CodeParse)
}
