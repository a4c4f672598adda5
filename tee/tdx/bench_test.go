package tdx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee/tdx"
)

// p256 returns two verifications of P-256 signatures, which verifying a quote of
// a known platform cannot do without: by the PCK and by the attestation key.
func p256(tb testing.TB) func() {
	tb.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	message := make([]byte, 432)
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	return func() {
		for range 2 {
			digest := sha256.Sum256(message)
			if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
				tb.Fatal("does not verify")
			}
		}
	}
}

// BenchmarkVerifyKnownPlatform verifies a recorded quote, full evaluation of the
// TCB included, by a verifier that has seen the platform and the collateral. It
// takes turns with two P-256 verifications.
func BenchmarkVerifyKnownPlatform(b *testing.B) {
	ev, in := recorded(b)
	v := tdx.New()
	benchmark(b, func() *tdx.Verifier { return v }, func(v *tdx.Verifier) error { _, _, err := v.Verify(ev, in); return err })
}

// BenchmarkVerifyNewPlatform does it with a verifier that has seen nothing.
func BenchmarkVerifyNewPlatform(b *testing.B) {
	ev, in := recorded(b)
	benchmark(b, tdx.New, func(v *tdx.Verifier) error { _, _, err := v.Verify(ev, in); return err })
}

func benchmark(b *testing.B, prepare func() *tdx.Verifier, verify func(*tdx.Verifier) error) {
	limit := p256(b)
	var ours, floor time.Duration
	if err := verify(prepare()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		v := prepare()
		start := time.Now()
		err := verify(v)
		middle := time.Now()
		limit()
		ours, floor = ours+middle.Sub(start), floor+time.Since(middle)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(ours)/float64(floor), "x-of-two-p256")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/verify")
	v := prepare()
	b.ReportMetric(testing.AllocsPerRun(10, func() { _ = verify(v) }), "allocs/verify")
}
