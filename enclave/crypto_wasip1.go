package enclave

import (
	"unsafe"

	"github.com/cloister-cc/cloister/enclave/call"
)

// The runtime's AES runs on the processor's instructions for it, in constant
// time; the module's own would do neither.

func encrypt(key, nonce, plaintext, aad []byte) ([]byte, error) {
	return aead("encrypt", hostAEADSeal, key, nonce, plaintext, aad, len(plaintext)+tagSize)
}

func decrypt(key, nonce, ciphertext, aad []byte) ([]byte, error) {
	return aead("decrypt", hostAEADOpen, key, nonce, ciphertext, aad, len(ciphertext)+1)
}

type hostAEAD func(key, nonce, aad unsafe.Pointer, aadLen uint32, data unsafe.Pointer, dataLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

func aead(op call.Op, do hostAEAD, key, nonce, data, aad []byte, size int) ([]byte, error) {
	return receive(op, size, func(out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32 {
		return do(start(key), start(nonce), start(aad), uint32(len(aad)), start(data), uint32(len(data)), out, size, n)
	})
}
