package dcap

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// TestInteger compares the encoding with encoding/asn1.
func TestInteger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 1, 0x7f, 0x80, 0xff}), 0, 32).Draw(t, "b")
		want, err := asn1.Marshal(new(big.Int).SetBytes(b))
		if got := appendInteger(nil, b); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x: %x, want %x", b, got, want)
		}
	})
}
