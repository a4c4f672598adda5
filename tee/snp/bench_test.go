package snp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// realEvidence is the report in testdata with its VCEK.
func realEvidence(tb testing.TB) (tee.Evidence, tee.Input) {
	tb.Helper()
	report, err := os.ReadFile("testdata/milan-v3-report.bin")
	if err != nil {
		tb.Fatal(err)
	}
	vcek, err := os.ReadFile("testdata/milan-v3-vcek.der")
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Evidence{Kind: tee.SNP, Data: report, Certificates: [][]byte{vcek}}, tee.Input{At: snptest.At}
}

// p384 returns one verification of a P-384 signature over 672 bytes, the one
// thing that verifying a report cannot do without.
func p384(tb testing.TB) func() {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	message := make([]byte, 0x2A0)
	digest := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	return func() {
		digest := sha512.Sum384(message)
		if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
			tb.Fatal("does not verify")
		}
	}
}

func BenchmarkP384(b *testing.B) {
	verify := p384(b)
	for b.Loop() {
		verify()
	}
}

// BenchmarkVerifyCached verifies a real report with a VCEK that was seen before.
func BenchmarkVerifyCached(b *testing.B) {
	ev, in := realEvidence(b)
	v := snp.New()
	benchmarkAgainstP384(b, func() *snp.Verifier { return v }, ev, in)
}

// BenchmarkVerifyCachedWithEverything adds what a careful relying party gives:
// the whole chain, revocation lists of all products and minimum levels.
func BenchmarkVerifyCachedWithEverything(b *testing.B) {
	m := snptest.New(b, snp.Milan)
	k := m.VCEK(b, snptest.KeyOptions{})
	ev, in := k.Evidence(k.Report()), m.Input()
	ev.Certificates = [][]byte{k.Certificate, m.ASK.Certificate.Raw, m.ARK.Certificate.Raw}
	in.Endorsements.CRLs = [][]byte{manufacturer(b, snp.Genoa).ARK.CRL(b, snptest.Validity{}), m.ARK.CRL(b, snptest.Validity{}), manufacturer(b, snp.Turin).ARK.CRL(b, snptest.Validity{})}
	in.Endorsements.Collateral = map[string][]byte{snp.MinimumTCB: []byte(`{"Milan":{"bootloader":4,"tee":0,"snp":24,"microcode":219}}`)}
	v := snp.New()
	benchmarkAgainstP384(b, func() *snp.Verifier { return v }, ev, in)
}

// BenchmarkVerifyNew verifies a real report with a VCEK that was not seen before,
// by a verifier that has read its roots: one RSA-4096 verification more.
func BenchmarkVerifyNew(b *testing.B) {
	ev, in := realEvidence(b)
	benchmarkAgainstP384(b, func() *snp.Verifier {
		v := snp.New()
		if _, _, err := v.Verify(tee.Evidence{Kind: tee.SNP, Data: ev.Data}, in); err == nil {
			b.Fatal("verified without a VCEK")
		}
		return v
	}, ev, in)
}

// benchmarkAgainstP384 takes turns with a P-384 verification, so that both see
// the same machine. The metric x-of-p384 is how many times as long a verification
// takes; ns/op is of both and of prepare together.
func benchmarkAgainstP384(b *testing.B, prepare func() *snp.Verifier, ev tee.Evidence, in tee.Input) {
	limit := p384(b)
	var ours, floor time.Duration
	for b.Loop() {
		v := prepare()
		start := time.Now()
		_, _, err := v.Verify(ev, in)
		middle := time.Now()
		limit()
		ours, floor = ours+middle.Sub(start), floor+time.Since(middle)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(ours)/float64(floor), "x-of-p384")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/verify")
	v := prepare()
	b.ReportMetric(testing.AllocsPerRun(10, func() { v.Verify(ev, in) }), "allocs/verify")
}
