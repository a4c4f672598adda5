//go:build !wasip1

package enclave

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/cloister-cc/cloister/tee"
)

func encrypt(key, nonce, plaintext, aad []byte) ([]byte, error) {
	g, err := gcm(key)
	if err != nil {
		return nil, err
	}
	return g.Seal(nil, nonce, plaintext, aad), nil
}

func decrypt(key, nonce, ciphertext, aad []byte) ([]byte, error) {
	g, err := gcm(key)
	if err != nil {
		return nil, err
	}
	b, err := g.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return nil, &tee.Error{
			Code: tee.CodeSealed, Op: "decrypt",
			Err: errors.New("the bytes were altered, or encrypted under another key, nonce or additional data"),
		}
	}
	return b, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
