package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
)

// BenchmarkAppraise appraises against a policy with every kind of list and two
// rules, and against one without rules.
func BenchmarkAppraise(b *testing.B) {
	v, full := hardware(), fullPolicy()
	plain := full
	plain.Rules = nil
	for _, c := range []struct {
		name   string
		policy attest.Policy
	}{{"lists", plain}, {"lists and 2 rules", full}} {
		b.Run(c.name, func(b *testing.B) {
			a := compile(b, c.policy)
			b.ReportAllocs()
			for b.Loop() {
				if err := a.Appraise(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIssueToken and BenchmarkVerifyToken report how much they cost beside
// the one P-256 operation that they cannot do without.
func BenchmarkIssueToken(b *testing.B) {
	key := newKey(b, elliptic.P256())
	i := newIssuer(b, func(c *attest.IssuerConfig) { c.Key = key })
	v, digest := hardware(), sha256.Sum256(nil)
	bare := measure(b, func() error {
		_, err := ecdsa.SignASN1(nil, key, digest[:])
		return err
	})
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := i.Issue(v, policyDigest, attest.IssueOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/bare, "x-bare-sign")
}

func BenchmarkVerifyToken(b *testing.B) {
	key := newKey(b, elliptic.P256())
	i := newIssuer(b, func(c *attest.IssuerConfig) { c.Key = key })
	token := must[string](b)(i.Issue(hardware(), policyDigest, attest.IssueOptions{}))
	v, digest := trusting(i), sha256.Sum256(nil)
	sig := must[[]byte](b)(ecdsa.SignASN1(nil, key, digest[:]))
	bare := measure(b, func() error {
		ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig)
		return nil
	})
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := v.Verify(token, at); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/bare, "x-bare-verify")
}

// BenchmarkTokenForms compares the two forms of the same verdict, in time and in
// bytes.
func BenchmarkTokenForms(b *testing.B) {
	key := newKey(b, elliptic.P256())
	i := newIssuer(b, func(c *attest.IssuerConfig) { c.Key = key })
	verdict, v := hardware(), trusting(i)
	jwt := must[string](b)(i.Issue(verdict, policyDigest, attest.IssueOptions{}))
	cwt := must[[]byte](b)(i.IssueCWT(verdict, policyDigest, attest.IssueOptions{}))
	issueJWT := func() error { _, err := i.Issue(verdict, policyDigest, attest.IssueOptions{}); return err }
	issueCWT := func() error { _, err := i.IssueCWT(verdict, policyDigest, attest.IssueOptions{}); return err }
	verifyJWT := func() error { _, err := v.Verify(jwt, at); return err }
	verifyCWT := func() error { _, err := v.VerifyCWT(cwt, at); return err }
	for _, c := range []struct {
		name     string
		cwt, jwt func() error
	}{{"issue", issueCWT, issueJWT}, {"verify", verifyCWT, verifyJWT}} {
		b.Run(c.name, func(b *testing.B) {
			peer := measure(b, c.jwt)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if err := c.cwt(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/peer, "x-jwt")
			b.ReportMetric(float64(len(cwt))/float64(len(jwt)), "bytes/jwt-byte")
		})
	}
}

// measure returns the fastest of several batches of f, in ns per call: what the
// operation costs when the machine does nothing else.
func measure(b *testing.B, f func() error) float64 {
	b.Helper()
	best := time.Duration(1 << 62)
	for range 20 {
		start := time.Now()
		for range 50 {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		best = min(best, time.Since(start))
	}
	return float64(best) / 50
}
