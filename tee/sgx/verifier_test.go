package sgx_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
)

// TestRecorded verifies a quote of a real enclave with Intel's own collateral.
func TestRecorded(t *testing.T) {
	ev, in := recorded(t)
	claims, findings, err := sgx.New().Verify(ev, in)
	if err != nil || len(findings) > 0 {
		t.Fatal(findings, err)
	}
	if claims.TEE != tee.SGX || claims.Debug || claims.Simulated || claims.TCB != tee.TCBConfigurationAndSWHardeningNeeded || len(claims.Measurement) != 32 || len(claims.Signer) != 32 || len(claims.Platform) != 32 {
		t.Errorf("%+v", claims)
	}
	if want := []any{"INTEL-SA-00289", "INTEL-SA-00615"}; !cmp.Equal(claims.Vendor["advisories"], want) || claims.Vendor["fmspc"] != "00a067110000" {
		t.Errorf("advisories %v of %v", claims.Vendor["advisories"], claims.Vendor["fmspc"])
	}
	in.At = in.At.AddDate(0, 1, 0)
	_, _, err = sgx.New().Verify(ev, in)
	wantCodes(t, err, tee.CodeCollateralExpired)
}

func wantCodes(t *testing.T, err error, codes ...tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || e.Kind != tee.SGX {
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
	body := dcaptest.EnclaveBody()
	for _, debug := range []bool{false, true} {
		if debug {
			body[48] |= 2
		}
		claims, _, err := sgx.New().Verify(p.Evidence(t, dcaptest.QuoteOptions{Body: body}), intel.Input(t, dcaptest.CollateralOptions{}))
		if err != nil {
			t.Fatal(err)
		}
		want := tee.Claims{
			TEE: tee.SGX, Debug: debug, Measurement: bytes.Repeat([]byte{0xE1}, 32), Signer: bytes.Repeat([]byte{0x51}, 32),
			Product: 7, SVN: 3, ReportData: bytes.Repeat([]byte{0xD0}, 64), Platform: "ab000000000000000000000000000000", TCB: tee.TCBUpToDate,
		}
		vendor := claims.Vendor
		claims.Vendor = nil
		if d := cmp.Diff(want, claims); d != "" {
			t.Error(d)
		}
		if vendor["mrenclave"] != want.Measurement.String() || vendor["product_id"] != uint64(7) || vendor["svn"] != uint64(3) || vendor["debug"] != debug || vendor["quote_version"] != uint64(3) {
			t.Errorf("%v", vendor)
		}
	}
	// The claims do not share memory with the evidence.
	ev := p.Evidence(t, dcaptest.QuoteOptions{})
	claims, _, err := sgx.New().Verify(ev, intel.Input(t, dcaptest.CollateralOptions{}))
	clear(ev.Data)
	if err != nil || claims.Measurement[0] != 0xE1 || claims.ReportData[0] != 0xD0 {
		t.Errorf("%v, %v", claims.Measurement, err)
	}
}

func openEnclave(quote []byte) []byte {
	h := binary.LittleEndian.AppendUint32(nil, 1)
	h = binary.LittleEndian.AppendUint32(h, 2)
	h = binary.LittleEndian.AppendUint64(h, uint64(len(quote)))
	return append(h, quote...)
}

// TestOpenEnclaveHeader is taken off; one that lies about the size is not one.
func TestOpenEnclaveHeader(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	ev, in := p.Evidence(t, dcaptest.QuoteOptions{}), intel.Input(t, dcaptest.CollateralOptions{})
	quote := ev.Data
	v := sgx.New()
	for _, trailing := range [][]byte{nil, {1, 2, 3}} {
		ev.Data = append(openEnclave(quote), trailing...)
		if _, _, err := v.Verify(ev, in); err != nil || !v.Detect(ev.Data) {
			t.Error(err)
		}
	}
	ev.Data = openEnclave(quote)
	ev.Data[8]++
	_, _, err := v.Verify(ev, in)
	wantCodes(t, err, tee.CodeParse)
}

// ratls makes a certificate that carries a quote.
func ratls(t *testing.T, oid asn1.ObjectIdentifier, wrap func([]byte) []byte, form func(spki []byte) []byte) (*dcaptest.Intel, tee.Evidence) {
	t.Helper()
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	key := dcaptest.NewKey(t)
	// A first certificate tells how the key is encoded.
	spki := dcaptest.NewAuthority(t, dcaptest.CertificateOptions{Name: "x", Key: key}).Certificate.RawSubjectPublicKeyInfo
	body := dcaptest.EnclaveBody()
	clear(body[320:])
	sum := sha256.Sum256(form(spki))
	copy(body[320:], sum[:])
	value := wrap(p.Quote(t, dcaptest.QuoteOptions{Body: body}))
	cert := dcaptest.NewAuthority(t, dcaptest.CertificateOptions{Name: "RA-TLS", Key: key, Extensions: []pkix.Extension{{Id: oid, Value: value}}})
	return intel, tee.Evidence{Kind: tee.SGX, Data: cert.Certificate.Raw}
}

func TestCertificates(t *testing.T) {
	gramine, oe := asn1.ObjectIdentifier{1, 2, 840, 113741, 1337, 6}, asn1.ObjectIdentifier{1, 2, 840, 113556, 10, 1, 1}
	plain := func(b []byte) []byte { return b }
	octets := func(b []byte) []byte { return must(asn1.Marshal(b)) }
	text := func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}) }
	v := sgx.New()
	for name, c := range map[string]struct {
		oid  asn1.ObjectIdentifier
		wrap func([]byte) []byte
		form func([]byte) []byte
		code tee.Code
	}{
		"Gramine":                 {gramine, plain, plain, ""},
		"Gramine, octet string":   {gramine, octets, plain, ""},
		"Open Enclave":            {oe, openEnclave, text, ""},
		"Open Enclave, with NUL":  {oe, openEnclave, func(b []byte) []byte { return append(text(b), 0) }, ""},
		"another key":             {gramine, plain, func([]byte) []byte { return []byte("another") }, tee.CodeBinding},
		"an extension of no sort": {asn1.ObjectIdentifier{1, 2, 3}, plain, plain, tee.CodeParse},
		"no quote in it":          {gramine, func([]byte) []byte { return []byte("junk") }, plain, tee.CodeParse},
	} {
		t.Run(name, func(t *testing.T) {
			intel, ev := ratls(t, c.oid, c.wrap, c.form)
			if detects := !c.oid.Equal(asn1.ObjectIdentifier{1, 2, 3}); v.Detect(ev.Data) != detects {
				t.Errorf("detected: %t", !detects)
			}
			_, _, err := v.Verify(ev, intel.Input(t, dcaptest.CollateralOptions{}))
			if c.code != "" {
				wantCodes(t, err, c.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	_, _, err := v.Verify(tee.Evidence{Kind: tee.SGX, Data: []byte{0x30, 0x82, 0, 1, 0}}, tee.Input{At: at})
	wantCodes(t, err, tee.CodeParse)
}

func TestDetect(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	v := sgx.New()
	for _, o := range []dcaptest.QuoteOptions{{Version: 3}, {Version: 4}, {Version: 5}} {
		if !v.Detect(p.Quote(t, o)) {
			t.Errorf("version %d is not detected", o.Version)
		}
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "zeroes": make([]byte, 500), "a TD's": p.Quote(t, dcaptest.QuoteOptions{Type: dcap.TD10Body}), "a certificate": p.Certificate.Raw,
	} {
		if v.Detect(data) {
			t.Errorf("%s is detected", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	ev, in := recorded(f)
	f.Add(ev.Data)
	f.Add(openEnclave(ev.Data))
	f.Add([]byte{0x30, 0x82, 0, 1, 0})
	v := sgx.New()
	f.Fuzz(func(t *testing.T, data []byte) {
		claims, _, err := v.Verify(tee.Evidence{Kind: tee.SGX, Data: data}, in)
		if (claims.TEE == tee.SGX) != (err == nil) {
			t.Fatalf("%v and %v", claims, err)
		}
		v.Detect(data)
	})
}
