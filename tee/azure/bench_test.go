package azure_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
)

// signatures returns one verification of each signature that evidence contains
// when the VCEK was seen before: P-384 of the hardware, RSA-2048 of the vTPM.
func signatures(b *testing.B) func() {
	b.Helper()
	hardware, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	vtpm, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha512.Sum384(make([]byte, 0x2A0))
	s1, err := ecdsa.SignASN1(rand.Reader, hardware, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	s2, err := rsa.SignPKCS1v15(nil, vtpm, crypto.SHA256, digest[:32])
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		digest := sha512.Sum384(make([]byte, 0x2A0))
		if !ecdsa.VerifyASN1(&hardware.PublicKey, digest[:], s1) {
			b.Fatal("does not verify")
		}
		rsa.VerifyPKCS1v15(&vtpm.PublicKey, crypto.SHA256, digest[:32], s2)
	}
}

// BenchmarkVerify verifies real evidence, in both forms, and takes turns with its
// signatures alone, so that both see the same machine. The metric x-of-signatures
// is how many times as long a verification takes.
func BenchmarkVerify(b *testing.B) {
	verbose, err := os.ReadFile("testdata/snp-evidence.json")
	if err != nil {
		b.Fatal(err)
	}
	e, err := azure.ParseEnvelope(tee.AzureSNP, verbose)
	if err != nil {
		b.Fatal(err)
	}
	compact, err := e.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("verbose", func(b *testing.B) { benchmark(b, verbose) })
	b.Run("compact", func(b *testing.B) { benchmark(b, compact) })
}

func benchmark(b *testing.B, data []byte) {
	ev, in := tee.Evidence{Kind: tee.AzureSNP, Data: data}, tee.Input{At: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)}
	v := azure.NewSNP(snp.New())
	limit := signatures(b)
	if _, _, err := v.Verify(ev, in); err != nil {
		b.Fatal(err)
	}
	var ours, floor time.Duration
	for b.Loop() {
		start := time.Now()
		_, _, err := v.Verify(ev, in)
		middle := time.Now()
		limit()
		ours, floor = ours+middle.Sub(start), floor+time.Since(middle)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(ours)/float64(floor), "x-of-signatures")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/verify")
	b.ReportMetric(testing.AllocsPerRun(10, func() { v.Verify(ev, in) }), "allocs/verify")
}
