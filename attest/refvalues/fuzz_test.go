package refvalues_test

import (
	"crypto"
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/tee"
	"github.com/veraison/go-cose"
)

// usable holds what is true of everything that a reader returns: a policy that
// it is applied to compiles, or says why it was not applied.
func usable(t *testing.T, v refvalues.Values, err error) {
	t.Helper()
	if err != nil {
		if len(v.Entries) > 0 || !errors.Is(err, refvalues.ErrFormat) && !errors.Is(err, refvalues.ErrNotTrusted) {
			t.Fatalf("got %+v, %v", v, err)
		}
		return
	}
	p := base()
	if err := v.Apply(&p); err != nil {
		if !errors.Is(err, refvalues.ErrApply) {
			t.Fatalf("got %v", err)
		}
		return
	}
	if _, err := attest.Compile(p); err != nil {
		t.Fatalf("%v\n%+v", err, p)
	}
	a, err := attest.Compile(p)
	if err != nil || a.Appraise(&attest.Verified{Claims: tee.Claims{TEE: tee.SNP}}) == nil {
		t.Fatalf("evidence that measures nothing is accepted: %+v", p)
	}
}

func FuzzCoRIM(f *testing.F) {
	raw := tag{Number: 560, Content: m32}
	f.Add(unsigned(f, arr{profileSNP}, triple("snp", guest(obj{1: tag{Number: 553, Content: 3}, 3: obj{3: false}}), obj{0: 2, 1: obj{4: 2}}, obj{0: 8, 1: obj{4: raw, 0: obj{0: "1.2.3"}}})))
	f.Add(unsigned(f, profileIntel, triple("sgx", obj{1: obj{-83: tag{Number: 60020, Content: arr{6, arr{arr{1, m32}}}}, -73: tag{Number: 60010, Content: arr{2, 6}}, -84: arr{1, m32}, -85: 1}})))
	f.Add(unsigned(f, profileIntel, triple("tdx", obj{1: obj{-83: arr{arr{7, m48}}, 14: obj{0: arr{arr{7, m48}}}}})))
	f.Add(signed(f, cose.AlgorithmEdDSA, edKey(f), unsigned(f, nil, triple("snp", guest(nil))), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := open
		o.At = at
		o.Keys = []crypto.PublicKey{}
		v, err := refvalues.FromCoRIM(b, o)
		usable(t, v, err)
	})
}

// FuzzStatement signs what it is given, as a defective builder could.
func FuzzStatement(f *testing.F) {
	key := edKey(f)
	f.Add([]byte(statement(snpValue(`,"min_svn":3,"tcb":["UpToDate"]`))))
	f.Add([]byte(statement(`{"tee":"sgx","signer":"5151515151515151515151515151515151515151515151515151515151515151","product":7}`)))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, b := range []string{dsse(t, key, string(payload)), string(payload)} {
			v, err := refvalues.FromDSSE([]byte(b), []crypto.PublicKey{key.Public()})
			usable(t, v, err)
		}
		v, err := refvalues.FromMeasure(payload)
		usable(t, v, err)
	})
}

func BenchmarkFromCoRIM(b *testing.B) {
	doc := unsigned(b, profileSNP, triple("snp", guest(obj{1: tag{Number: 553, Content: 3}}), obj{0: 2, 1: obj{4: 0}}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := refvalues.FromCoRIM(doc, open); err != nil {
			b.Fatal(err)
		}
	}
}
