package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee/tpm"
)

// BenchmarkVerify verifies quotes of a TPM without and with an event log and takes
// turns with one verification of the signature that they contain, so that both
// see the same machine. The metric x-of-signature is how many times as long a
// verification takes.
func BenchmarkVerify(b *testing.B) {
	for _, scheme := range []tpm.Scheme{tpm.RSASSA, tpm.ECDSA} {
		for _, log := range []bool{false, true} {
			name := scheme.String()
			if log {
				name += "-with-log"
			}
			b.Run(name, func(b *testing.B) { benchmark(b, scheme, log) })
		}
	}
}

func benchmark(b *testing.B, scheme tpm.Scheme, log bool) {
	c := chip(b, scheme)
	ev, in := evidence(b, quoted(c)), c.Input(b)
	if log {
		ev.EventLog = c.Log
	}
	digest := sha256.Sum256(make([]byte, 128))
	var limit func()
	switch k := c.Key.(type) {
	case *rsa.PrivateKey:
		s, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		limit = func() { rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], s) }
	case *ecdsa.PrivateKey:
		s, err := ecdsa.SignASN1(rand.Reader, k, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		limit = func() { ecdsa.VerifyASN1(&k.PublicKey, digest[:], s) }
	}
	v := tpm.New()
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
	b.ReportMetric(float64(ours)/float64(floor), "x-of-signature")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/verify")
	b.ReportMetric(testing.AllocsPerRun(10, func() { v.Verify(ev, in) }), "allocs/verify")
}
