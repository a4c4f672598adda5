//go:build linux

package seal_test

import (
	"bytes"
	"testing"

	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// FuzzUnseal: nothing but the very blobs that were sealed opens.
func FuzzUnseal(f *testing.F) {
	in := launched(f, softwaretest.New(f), code{signer: newKey(f), svn: 2})
	good := [][]byte{
		sealed(f, in, tee.SealToMeasurement(), "state", "aad"),
		sealed(f, in, tee.SealToSigner(1), "", "aad"),
		sealed(f, in, tee.SealToSigner(2), string(make([]byte, 100)), "aad"),
	}
	for _, b := range good {
		f.Add(b, []byte("aad"))
		f.Add(b, []byte(""))
	}
	f.Add([]byte("CLSEAL1\n\x00\x01\xa0"), []byte("aad"))
	f.Fuzz(func(t *testing.T, blob, aad []byte) {
		policy, policyErr := seal.Policy(blob)
		if policyErr != nil && policy != (tee.SealPolicy{}) {
			t.Fatal("a policy beside an error")
		}
		plain, err := seal.Unseal(t.Context(), in, blob, aad)
		if err != nil {
			if plain != nil {
				t.Fatal("plaintext beside an error")
			}
			return
		}
		if string(aad) != "aad" {
			t.Fatalf("opened with other additional data %q", aad)
		}
		for _, b := range good {
			if bytes.Equal(b, blob) {
				return
			}
		}
		t.Fatalf("forged: %x", blob)
	})
}
