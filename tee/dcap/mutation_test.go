package dcap_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// forms are one quote of each form.
var forms = []dcaptest.QuoteOptions{
	{Version: 3}, {Version: 4}, {Version: 5}, {Version: 4, Type: dcap.TD10Body}, {Version: 5, Type: dcap.TD10Body}, {Version: 5, Type: dcap.TD15Body},
}

// TestMutations changes every byte of a quote of each form in several ways, more
// than 10,000 for each. None may be accepted but of the white space between
// certificates.
func TestMutations(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	for _, o := range forms {
		t.Run(fmt.Sprintf("version %d, body %d", o.Version, o.Type), func(t *testing.T) {
			t.Parallel()
			ev := p.Evidence(t, o)
			in := intel.Input(t, dcaptest.CollateralOptions{TDX: ev.Kind == tee.TDX})
			q, err := dcap.ParseQuote(ev.Data)
			if err != nil {
				t.Fatal(err)
			}
			certs := len(ev.Data) - dcap.CertificateBytes(q)
			var v dcap.Verifier
			tried, accepted, step := 0, 0, 1
			if testing.Short() {
				step = 7
			}
			for i := 0; i < len(ev.Data); i += step {
				for _, x := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x55, 0xff} {
					if i >= certs && (x != 0x01 || o.Version != 3) {
						continue // parsing certificates is slow, and the same for all
					}
					data := append([]byte(nil), ev.Data...)
					data[i] ^= x
					tried++
					_, err := v.Verify(ev.Kind, tee.Evidence{Kind: ev.Kind, Data: data}, in)
					if err == nil {
						if accepted++; i < certs || ev.Data[i] > ' ' {
							t.Fatalf("byte %d with %#x is accepted", i, x)
						}
					} else if _, ok := errors.AsType[*tee.VerifyError](err); !ok {
						t.Fatalf("byte %d: %v", i, err)
					}
				}
			}
			if tried < 10_000 && !testing.Short() {
				t.Errorf("only %d mutations were tried", tried)
			}
			t.Logf("%d mutations, %d accepted, all in the white space of the chain", tried, accepted)
		})
	}
}

// TestTruncations: no quote is accepted, or panics, that lacks bytes at the end.
func TestTruncations(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	for _, o := range forms {
		ev := p.Evidence(t, o)
		for n := range ev.Data {
			if _, err := dcap.ParseQuote(ev.Data[:n]); err == nil {
				t.Fatalf("version %d: %d of %d bytes parse", o.Version, n, len(ev.Data))
			}
		}
	}
}

// TestLengths: no length field makes a quote parse that is not the true one.
func TestLengths(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	for _, o := range forms {
		data := p.Quote(t, o)
		for i := 0; i+4 <= len(data)-dcap.EnclaveBodySize; i++ {
			for _, n := range []uint32{0, 1, 0xfffffff0, 0xffffffff, 0x7fffffff} {
				b := append([]byte(nil), data...)
				b[i], b[i+1], b[i+2], b[i+3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
				if q, err := dcap.ParseQuote(b); err == nil && len(q.Body) == 0 {
					t.Fatalf("offset %d with %#x: a quote without a body", i, n)
				}
			}
		}
	}
}
