package tdx_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// TestRecorded verifies quotes of real TDs, one with Intel's own collateral.
func TestRecorded(t *testing.T) {
	ev, in := recorded(t)
	claims, findings, err := tdx.New().Verify(ev, in)
	if err != nil || len(findings) != 1 || findings[0].Code != tee.CodeTrailing {
		t.Fatal(findings, err)
	}
	if claims.TEE != tee.TDX || claims.Debug || claims.Simulated || claims.TCB != tee.TCBUpToDate || len(claims.Measurement) != 48 || claims.Vendor["fmspc"] != "b0c06f000000" {
		t.Errorf("%+v", claims)
	}
	ev.Data = must(os.ReadFile("testdata/v5-quote.bin"))
	claims, findings, err = tdx.New().Verify(ev, tee.Input{At: at})
	if err != nil || claims.TCB != tee.TCBUnknown || claims.Vendor["tee_tcb_svn_2"] == nil || len(findings) < 3 {
		t.Errorf("%+v, %v, %v", claims, findings, err)
	}
}

func wantCodes(t *testing.T, err error, codes ...tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || e.Kind != tee.TDX {
		t.Fatalf("%v, want a refusal", err)
	}
	var got []tee.Code
	for _, f := range e.Failures {
		got = append(got, f.Code)
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, codes) {
		t.Fatalf("%v, want %v: %v", got, codes, err)
	}
}

func TestClaims(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{PPID: [16]byte{0xAB}})
	body := dcaptest.TDBody(dcap.TD15Body)
	copy(body[184:], bytes.Repeat([]byte{0x1D}, 32)) // MRCONFIGID
	verify := func() tee.Claims {
		t.Helper()
		claims, _, err := tdx.New().Verify(p.Evidence(t, dcaptest.QuoteOptions{Version: 5, Type: dcap.TD15Body, Body: body}), intel.Input(t, dcaptest.CollateralOptions{TDX: true}))
		if err != nil {
			t.Fatal(err)
		}
		return claims
	}
	claims := verify()
	want := tee.Claims{
		TEE: tee.TDX, Measurement: bytes.Repeat([]byte{0x7D}, 48), LaunchDigest: bytes.Repeat([]byte{0x1D}, 32),
		ReportData: bytes.Repeat([]byte{0xD0}, 64), Platform: "ab000000000000000000000000000000", TCB: tee.TCBUpToDate,
	}
	vendor := claims.Vendor
	claims.Vendor = nil
	if d := cmp.Diff(want, claims); d != "" {
		t.Error(d)
	}
	attributes := map[string]any{
		"debug": false, "sept_ve_disable": true, "migratable": false, "pks": false, "kl": false, "perfmon": false, "bits": uint64(1 << 28),
	}
	if d := cmp.Diff(attributes, vendor["td_attributes"]); d != "" || vendor["rtmr0"] != string(bytes.Repeat([]byte("a0"), 48)) || vendor["mr_td"] != want.Measurement.String() {
		t.Error(d, vendor)
	}
	// A configuration id that is no SHA-256 is no launch digest.
	body[184+47] = 1
	if claims := verify(); claims.LaunchDigest != nil {
		t.Errorf("launch digest %x", claims.LaunchDigest)
	}
	// Any bit of the debug group lets the host look in.
	for bit := range 8 {
		binary.LittleEndian.PutUint64(body[120:], 1<<bit)
		if !verify().Debug {
			t.Errorf("bit %d is not debug", bit)
		}
	}
	binary.LittleEndian.PutUint64(body[120:], 1<<8|1<<63)
	if claims := verify(); claims.Debug || claims.Vendor["td_attributes"].(map[string]any)["perfmon"] != true {
		t.Errorf("%+v", claims)
	}
}

func TestDetect(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	v := tdx.New()
	for _, o := range []dcaptest.QuoteOptions{{Version: 4, Type: dcap.TD10Body}, {Version: 5, Type: dcap.TD15Body}} {
		if !v.Detect(p.Quote(t, o)) {
			t.Errorf("version %d is not detected", o.Version)
		}
	}
	for name, data := range map[string][]byte{"nothing": nil, "zeroes": make([]byte, 500), "an enclave's": p.Quote(t, dcaptest.QuoteOptions{})} {
		if v.Detect(data) {
			t.Errorf("%s is detected", name)
		}
	}
	_, _, err := v.Verify(p.Evidence(t, dcaptest.QuoteOptions{}), intel.Input(t, dcaptest.CollateralOptions{}))
	wantCodes(t, err, tee.CodeUnknownFormat)
}

func TestParseReport(t *testing.T) {
	for _, n := range []int{0, dcap.TD10BodySize - 1, dcap.TD10BodySize + 1, dcap.TD15BodySize + 1} {
		if _, err := tdx.ParseReport(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are read", n)
		}
	}
}

func FuzzVerify(f *testing.F) {
	ev, in := recorded(f)
	f.Add(ev.Data)
	f.Add(must(os.ReadFile("testdata/v5-quote.bin")))
	v := tdx.New()
	f.Fuzz(func(t *testing.T, data []byte) {
		claims, _, err := v.Verify(tee.Evidence{Kind: tee.TDX, Data: data}, in)
		if (claims.TEE == tee.TDX) != (err == nil) {
			t.Fatalf("%v and %v", claims, err)
		}
		v.Detect(data)
	})
}
