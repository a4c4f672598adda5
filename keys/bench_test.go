package keys_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/keys"
)

// BenchmarkRelease releases one key per request, on all cores, with evidence of
// the fake TEE (a certificate and a signature, both P-256), a real token and a
// log in memory. It reports releases per second and how much a release costs
// beside the cryptography that it cannot do without: two verifications, one
// signature and one HPKE seal.
func BenchmarkRelease(b *testing.B) {
	w := newWorld(b)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	issuer := must(attest.NewIssuer(attest.IssuerConfig{Name: "bench", Key: key, Now: w.now}))
	w.issue = func(v *attest.Verified, policy [32]byte) (string, error) {
		return issuer.Issue(v, policy, attest.IssueOptions{})
	}
	w.imported(b, "k", nil)
	limit := cryptographicLimit(key)
	requests := make([]keys.ReleaseRequest, b.N)
	recipient, _, err := keys.NewRecipient()
	if err != nil {
		b.Fatal(err)
	}
	c := w.tee.Claims()
	for i := range requests {
		nonce := must(w.Nonce())
		ev := must(w.tee.Evidence(b.Context(), keys.ReleaseBinding(nonce, recipient.PublicKey(), c.LaunchDigest, c.InstanceID)))
		requests[i] = keys.ReleaseRequest{Nonce: nonce, Evidence: ev, PublicKey: recipient.PublicKey(), Keys: []string{"k"}}
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Release(b.Context(), requests[next.Add(1)-1]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "releases/s")
	b.ReportMetric(limit*float64(b.N)/b.Elapsed().Seconds(), "of-one-core-limit")
}

// cryptographicLimit is the seconds of one core that the cryptography of one
// release costs: the fastest of several batches.
func cryptographicLimit(key *ecdsa.PrivateKey) float64 {
	digest := sha256.Sum256(nil)
	sig := must(ecdsa.SignASN1(rand.Reader, key, digest[:]))
	to := must(hpke.MLKEM768X25519().GenerateKey()).PublicKey()
	best := time.Duration(1 << 62)
	for range 10 {
		start := time.Now()
		for range 20 {
			ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig)
			ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig)
			must(ecdsa.SignASN1(rand.Reader, key, digest[:]))
			must(hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), nil, digest[:]))
		}
		best = min(best, time.Since(start))
	}
	return best.Seconds() / 20
}
