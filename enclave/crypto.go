package enclave

import (
	"errors"

	"github.com/cloister-cc/cloister/tee"
)

const (
	keySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// EncryptAESGCM encrypts with AES-256-GCM: key is 32 bytes and nonce 12 bytes
// that were never used with this key before. The tag is at the end of the
// result. It needs no instance. In a Wasm module the runtime does the work, with
// the processor's AES instructions.
func EncryptAESGCM(key, nonce, plaintext, aad []byte) ([]byte, error) {
	if err := checkSizes("encrypt", key, nonce); err != nil {
		return nil, err
	}
	return encrypt(key, nonce, plaintext, aad)
}

// DecryptAESGCM opens what [EncryptAESGCM] made. An altered byte, another key,
// nonce or aad give an error with [tee.CodeSealed].
func DecryptAESGCM(key, nonce, ciphertext, aad []byte) ([]byte, error) {
	if err := checkSizes("decrypt", key, nonce); err != nil {
		return nil, err
	}
	return decrypt(key, nonce, ciphertext, aad)
}

func checkSizes(op string, key, nonce []byte) error {
	if len(key) != keySize || len(nonce) != nonceSize {
		return &tee.Error{Code: tee.CodeParse, Op: op, Err: errors.New("want a key of 32 bytes and a nonce of 12")}
	}
	return nil
}
