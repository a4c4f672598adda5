package enclave_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/tee"
)

// TestAESGCMIsTheStandardLibrarys: what we encrypt, crypto/cipher opens, and the
// other way round.
func TestAESGCMIsTheStandardLibrarys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")
		nonce := rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "nonce")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		aad := rapid.SliceOf(rapid.Byte()).Draw(t, "aad")
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		g, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		got, err := enclave.EncryptAESGCM(key, nonce, plain, aad)
		if want := g.Seal(nil, nonce, plain, aad); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("encrypted %x (%v), want %x", got, err, want)
		}
		back, err := enclave.DecryptAESGCM(key, nonce, got, aad)
		if err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("decrypted %x (%v), want %x", back, err, plain)
		}
	})
}

func TestAESGCMRefuses(t *testing.T) {
	key, nonce, aad := make([]byte, 32), make([]byte, 12), []byte("aad")
	sealed, err := enclave.EncryptAESGCM(key, nonce, []byte("plain"), aad)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(b []byte, at int) []byte { c := bytes.Clone(b); c[at] ^= 1; return c }
	for name, c := range map[string]struct {
		key, nonce, sealed, aad []byte
		code                    tee.Code
	}{
		"other key":   {flipped(key, 31), nonce, sealed, aad, tee.CodeSealed},
		"other nonce": {key, flipped(nonce, 0), sealed, aad, tee.CodeSealed},
		"other aad":   {key, nonce, sealed, nil, tee.CodeSealed},
		"altered":     {key, nonce, flipped(sealed, 0), aad, tee.CodeSealed},
		"tag altered": {key, nonce, flipped(sealed, len(sealed)-1), aad, tee.CodeSealed},
		"truncated":   {key, nonce, sealed[:len(sealed)-1], aad, tee.CodeSealed},
		"empty":       {key, nonce, nil, aad, tee.CodeSealed},
		"short key":   {key[:16], nonce, sealed, aad, tee.CodeParse},
		"long nonce":  {key, make([]byte, 16), sealed, aad, tee.CodeParse},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := enclave.DecryptAESGCM(c.key, c.nonce, c.sealed, c.aad)
			e, ok := errors.AsType[*tee.Error](err)
			if !ok || e.Code != c.code || b != nil {
				t.Errorf("got %x, %v, want code %s", b, err, c.code)
			}
		})
	}
	if _, err := enclave.EncryptAESGCM(nil, nonce, nil, nil); err == nil {
		t.Error("encrypted without a key")
	}
}
