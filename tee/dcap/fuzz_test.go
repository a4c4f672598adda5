package dcap_test

import (
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// FuzzVerify: whatever comes in, there is a verdict, and a refusal says why.
func FuzzVerify(f *testing.F) {
	intel := dcaptest.New(f)
	p := intel.Platform(f, dcaptest.PlatformOptions{})
	for _, o := range forms {
		ev := p.Evidence(f, o)
		f.Add(ev.Data)
		f.Add(ev.Data[:len(ev.Data)/2])
	}
	in, inTD := intel.Input(f, dcaptest.CollateralOptions{}), intel.Input(f, dcaptest.CollateralOptions{TDX: true})
	v := &dcap.Verifier{}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := dcap.ParseQuote(data)
		if err == nil && (len(q.Body) == 0 || q.Trailing > len(data)) {
			t.Fatalf("%+v", q)
		}
		for kind, in := range map[tee.Kind]tee.Input{tee.SGX: in, tee.TDX: inTD} {
			r, err := v.Verify(kind, tee.Evidence{Kind: kind, Data: data}, in)
			if (r == nil) == (err == nil) {
				t.Fatalf("%v and %v", r, err)
			}
		}
	})
}

// FuzzDocument: Intel's documents come from whoever keeps them.
func FuzzDocument(f *testing.F) {
	intel := dcaptest.New(f)
	for _, o := range []dcaptest.CollateralOptions{{}, {TDX: true}, {Version: 2}} {
		for _, b := range intel.Endorsements(f, o).Collateral {
			f.Add(b)
		}
	}
	f.Add([]byte(`{"tcbInfo":null,"signature":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if isIntels, err := dcap.ParseDocument(b); err != nil && !isIntels {
			t.Fatal(err)
		}
	})
}
