package gpu_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/gpu"
)

// TestRecorded verifies what a real H100 said, by NVIDIA's own root.
func TestRecorded(t *testing.T) {
	ev := recorded(t)
	claims, findings, err := gpu.New().Verify(ev, tee.Input{At: at})
	if err != nil {
		t.Fatal(err)
	}
	measurements, _ := claims.Vendor["measurements"].(map[string]any)
	if claims.TEE != tee.NvidiaGPU || !claims.Debug || len(claims.Measurement) != 48 || len(claims.Platform) != 64 || !bytes.Equal(claims.ReportData, ev.Data[4:36]) ||
		claims.TCB != tee.TCBUnknown || len(measurements) != 64 || !strings.HasPrefix(measurements["2"].(string), "8048dfd18fe2") {
		t.Errorf("claims %+v", claims)
	}
	for name, want := range map[string]any{"driver_version": "550.90.07", "vbios_version": "96.00.9F.00.01", "project": "1010", "chip_sku": "882"} {
		if claims.Vendor[name] != want {
			t.Errorf("%s is %q, want %q", name, claims.Vendor[name], want)
		}
	}
	if device, _ := claims.Vendor["device"].(string); !strings.Contains(device, "GH100 A01 GSP BROM") || !strings.HasPrefix(claims.Vendor["firmware_id"].(string), "f5c384ae") {
		t.Errorf("claims %+v", claims.Vendor)
	}
	if len(findings) != 1 || findings[0].Code != tee.CodeRevocationUnknown {
		t.Errorf("findings %v", findings)
	}
	if got := codesOf(t, ev, tee.Input{At: at.AddDate(-10, 0, 0)}); !slices.Equal(got, []tee.Code{tee.CodeExpired}) {
		t.Errorf("before it was made: %v", got)
	}
	if got := codesOf(t, ev, newDevice(t).input()); !slices.Equal(got, []tee.Code{tee.CodeChain}) {
		t.Errorf("with another root: %v", got)
	}
	ev.Data[700] ^= 1
	if got := codesOf(t, ev, tee.Input{At: at}); !slices.Equal(got, []tee.Code{tee.CodeSignature}) {
		t.Errorf("altered: %v", got)
	}
}

// codesOf are the codes of a refusal without claims, sorted, each once.
func codesOf(tb testing.TB, ev tee.Evidence, in tee.Input) []tee.Code {
	tb.Helper()
	claims, findings, err := gpu.New().Verify(ev, in)
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || !errors.Is(err, tee.ErrNotVerified) || claims.TEE != "" || claims.Vendor != nil || findings != nil {
		tb.Fatalf("claims %+v, error %v", claims, err)
	}
	var codes []tee.Code
	for _, f := range e.Failures {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func TestRefuses(t *testing.T) {
	response := func(f func(b []byte) []byte) func(*testing.T, *device) {
		return func(_ *testing.T, d *device) { d.change = func(_, b []byte) []byte { return f(b) } }
	}
	request := func(at int, v byte) func(*testing.T, *device) {
		return func(_ *testing.T, d *device) { d.change = func(r, b []byte) []byte { r[at] = v; return b } }
	}
	set := func(at int, v byte) func(*testing.T, *device) {
		return response(func(b []byte) []byte { b[at] = v; return b })
	}
	for name, c := range map[string]struct {
		change func(*testing.T, *device)
		codes  []tee.Code
	}{
		"other firmware":   {func(_ *testing.T, d *device) { d.fields[20] = make([]byte, 48) }, []tee.Code{tee.CodeBinding}},
		"firmware unnamed": {func(_ *testing.T, d *device) { delete(d.fields, 20) }, []tee.Code{tee.CodeBinding}},
		"firmware not in chain": {func(t *testing.T, d *device) {
			d.firmware = d.newFirmware(t, d.device, func(c *x509.Certificate) { c.ExtraExtensions = nil })
		}, []tee.Code{tee.CodeBinding}},
		"firmware unreadable": {func(t *testing.T, d *device) {
			d.firmware = d.newFirmware(t, d.device, func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{1} })
		}, []tee.Code{tee.CodeParse}},
		"another signer": {func(t *testing.T, d *device) {
			other := *d.firmware
			other.key = newDevice(t).firmware.key
			d.firmware = &other
		}, []tee.Code{tee.CodeSignature}},
		"another root": {func(t *testing.T, d *device) { d.root = newDevice(t).root }, []tee.Code{tee.CodeChain}},
		"leaf as issuer": {func(t *testing.T, d *device) {
			d.device = d.maker.issue(t, "device", func(c *x509.Certificate) { c.IsCA = false })
			d.firmware = d.newFirmware(t, d.device, nil)
		}, []tee.Code{tee.CodeChain}},
		"issuer as leaf": {func(_ *testing.T, d *device) { d.firmware = d.device }, []tee.Code{tee.CodeChain}},
		"another device": {func(t *testing.T, d *device) { d.device = d.maker.issue(t, "other", nil) }, []tee.Code{tee.CodeChain}},
		"order":          {func(_ *testing.T, d *device) { d.device, d.maker = d.maker, d.device }, []tee.Code{tee.CodeChain}},
		"expired": {func(t *testing.T, d *device) {
			d.firmware = d.newFirmware(t, d.device, func(c *x509.Certificate) { c.NotAfter = at.AddDate(0, 0, -1) })
		}, []tee.Code{tee.CodeExpired}},
		"SPDM 1.2":         {request(0, 0x12), []tee.Code{tee.CodeUnsupported}},
		"another request":  {request(1, 0xE1), []tee.Code{tee.CodeUnsupported}},
		"unsigned":         {request(2, 0), []tee.Code{tee.CodeUnsupported}},
		"some only":        {request(3, 1), []tee.Code{tee.CodeUnsupported}},
		"another response": {set(1, 0x7F), []tee.Code{tee.CodeUnsupported}},
		"fewer blocks":     {set(4, 2), []tee.Code{tee.CodeParse}},
		"more blocks":      {set(4, 4), []tee.Code{tee.CodeParse}},
		"long record":      {set(7, 0xFF), []tee.Code{tee.CodeParse}},
		"block twice":      {set(8+55, 1), []tee.Code{tee.CodeParse}},
		"block zero":       {set(8, 0), []tee.Code{tee.CodeParse}},
		"other form":       {set(9, 2), []tee.Code{tee.CodeParse}},
		"sizes":            {set(10, 50), []tee.Code{tee.CodeParse}},
		"bytes after":      {response(func(b []byte) []byte { return append(b, 0) }), []tee.Code{tee.CodeParse}},
		"field twice":      {response(func(b []byte) []byte { b[8+165+32]++; b[8+165+32] += 3; return append(b, 3, 0, 0, 0) }), []tee.Code{tee.CodeParse}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			c.change(t, d)
			if got := codesOf(t, d.evidence(t), d.input()); !slices.Equal(got, c.codes) {
				t.Errorf("refused with %v, want %v", got, c.codes)
			}
		})
	}
	d := newDevice(t)
	good := d.evidence(t)
	if _, _, err := gpu.New().Verify(good, d.input()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*tee.Evidence, *tee.Input)
		code   tee.Code
	}{
		"other kind":      {func(ev *tee.Evidence, _ *tee.Input) { ev.Kind = tee.SNP }, tee.CodeUnknownFormat},
		"no time":         {func(_ *tee.Evidence, in *tee.Input) { in.At = tee.Input{}.At }, tee.CodeTime},
		"no roots":        {func(_ *tee.Evidence, in *tee.Input) { in.Roots = tee.Roots{} }, tee.CodeChain},
		"empty root":      {func(_ *tee.Evidence, in *tee.Input) { in.Roots = tee.Roots{nil} }, tee.CodeChain},
		"embedded root":   {func(_ *tee.Evidence, in *tee.Input) { in.Roots = nil }, tee.CodeChain},
		"no certificates": {func(ev *tee.Evidence, _ *tee.Input) { ev.Certificates = nil }, tee.CodeChain},
		"many":            {func(ev *tee.Evidence, _ *tee.Input) { ev.Certificates = slices.Repeat(ev.Certificates[:1], 17) }, tee.CodeChain},
		"no certificate":  {func(ev *tee.Evidence, _ *tee.Input) { ev.Certificates = [][]byte{{1}, {2}} }, tee.CodeParse},
		"short":           {func(ev *tee.Evidence, _ *tee.Input) { ev.Data = ev.Data[:44] }, tee.CodeParse},
		"long":            {func(ev *tee.Evidence, _ *tee.Input) { ev.Data = make([]byte, 32<<10+1) }, tee.CodeParse},
	} {
		ev, in := good, d.input()
		c.change(&ev, &in)
		if got := codesOf(t, ev, in); !slices.Equal(got, []tee.Code{c.code}) {
			t.Errorf("%s: refused with %v, want %s", name, got, c.code)
		}
	}
}

// TestEveryFlipIsRefused changes every byte of a report.
func TestEveryFlipIsRefused(t *testing.T) {
	d := newDevice(t)
	ev, in, v := d.evidence(t), d.input(), gpu.New()
	for i := range ev.Data {
		ev.Data[i] ^= 1 << (i % 8)
		if _, _, err := v.Verify(ev, in); err == nil {
			t.Fatalf("accepted a report with another byte %#x", i)
		}
		ev.Data[i] ^= 1 << (i % 8)
		if _, err := gpu.ParseReport(ev.Data[:i]); err == nil {
			t.Fatalf("accepted %d bytes of a report", i)
		}
	}
}

func TestDetect(t *testing.T) {
	v := gpu.New()
	if v.Kind() != tee.NvidiaGPU || !v.Detect(recorded(t).Data) || !v.Detect(newDevice(t).evidence(t).Data) {
		t.Error("a report is not recognised")
	}
	for _, b := range [][]byte{nil, {0x11, 0xE0}, make([]byte, 100)} {
		if v.Detect(b) {
			t.Errorf("%x is recognised", b)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(recorded(f).Data)
	f.Add(newDevice(f).evidence(f).Data)
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := gpu.ParseReport(b)
		if err != nil {
			if r != nil || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("report %v, error %v", r, err)
			}
			return
		}
		total := 0
		for _, m := range r.Measurements {
			total += 7 + len(m.Value)
		}
		if total != len(r.Record) || len(r.Nonce) != 32 || !gpu.New().Detect(b) {
			t.Fatalf("report %+v", r)
		}
	})
}
