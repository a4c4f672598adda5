package nitro_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
)

// p384 returns one verification of a P-384 signature over 4 KiB.
func p384(tb testing.TB) func() {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	message := make([]byte, 4<<10)
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

// BenchmarkVerifyWarm verifies a real document whose issuers were seen before:
// two signatures.
func BenchmarkVerifyWarm(b *testing.B) {
	v := nitro.New()
	benchmark(b, func() *nitro.Verifier { return v }, 2)
}

// BenchmarkVerifyNew verifies it with a new verifier: five signatures.
func BenchmarkVerifyNew(b *testing.B) { benchmark(b, nitro.New, 5) }

// benchmark takes turns with as many P-384 verifications as the document contains,
// so that both see the same machine. The metric x-of-signatures is how many times
// as long a verification takes.
func benchmark(b *testing.B, prepare func() *nitro.Verifier, signatures int) {
	ev, in := realDocument(b, "nitro-2021.cbor"), tee.Input{At: at2021}
	limit := p384(b)
	if _, _, err := prepare().Verify(ev, in); err != nil {
		b.Fatal(err)
	}
	var ours, floor time.Duration
	for b.Loop() {
		v := prepare()
		start := time.Now()
		_, _, err := v.Verify(ev, in)
		middle := time.Now()
		for range signatures {
			limit()
		}
		ours, floor = ours+middle.Sub(start), floor+time.Since(middle)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(ours)/float64(floor), "x-of-signatures")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/verify")
	v := prepare()
	b.ReportMetric(testing.AllocsPerRun(10, func() { v.Verify(ev, in) }), "allocs/verify")
}
