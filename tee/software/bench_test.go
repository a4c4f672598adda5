//go:build linux

package software

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/cloister-cc/cloister/tee"
)

// BenchmarkVerify compares a verification with the P-256 verification that it
// cannot do without ("limit"), with the certificate remembered and not.
func BenchmarkVerify(b *testing.B) {
	p := newPlatform(b)
	ev := must(start(b, p, testDocument(), nil).Evidence(b.Context(), [64]byte{}))
	in := inputFor(b, p)
	b.Run("limit", func(b *testing.B) {
		digest := sha256.Sum256(ev.Data)
		sig := must(ecdsa.SignASN1(rand.Reader, p.attestationKey(), digest[:]))
		for b.Loop() {
			if !ecdsa.VerifyASN1(&p.attestationKey().PublicKey, digest[:], sig) {
				b.Fatal("does not verify")
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		v := New()
		for b.Loop() {
			if _, _, err := v.Verify(ev, in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := New().Verify(ev, in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDevice(b *testing.B) {
	d := device(b, start(b, newPlatform(b), testDocument(), nil))
	b.Run("evidence", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.Evidence(b.Context(), [64]byte{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sealing key", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.SealingKey(b.Context(), tee.SealToMeasurement(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("advance", func(b *testing.B) {
		from, _, err := d.ReadCounter(b.Context(), "c")
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := d.AdvanceCounter(b.Context(), "c", from, [32]byte{}); err != nil {
				b.Fatal(err)
			}
			from++
		}
	})
}

func BenchmarkLaunch(b *testing.B) {
	p := newPlatform(b)
	path := socketPath(b)
	serve(b, p, path)
	c := must(Connect(path))
	r := requestFor(b, testDocument(), nil)
	for b.Loop() {
		f, _, err := c.Launch(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
