package enclave

import "unsafe"

// The functions of the module cloister_v1; package enclave/wasm documents them.
// A pointer may be nil where its length is 0.

//go:wasmimport cloister_v1 self
func hostSelf(out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 secret
func hostSecret(name unsafe.Pointer, nameLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 evidence
func hostEvidence(data unsafe.Pointer, dataLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 seal
func hostSeal(policy, svn uint32, plain unsafe.Pointer, plainLen uint32, aad unsafe.Pointer, aadLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 unseal
func hostUnseal(blob unsafe.Pointer, blobLen uint32, aad unsafe.Pointer, aadLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 counter_read
func hostCounterRead(policy uint32, name unsafe.Pointer, nameLen uint32, value, digest unsafe.Pointer) uint32

//go:wasmimport cloister_v1 counter_advance
func hostCounterAdvance(policy uint32, name unsafe.Pointer, nameLen uint32, from uint64, digest unsafe.Pointer) uint32

//go:wasmimport cloister_v1 aead_seal
func hostAEADSeal(key, nonce, aad unsafe.Pointer, aadLen uint32, data unsafe.Pointer, dataLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 aead_open
func hostAEADOpen(key, nonce, aad unsafe.Pointer, aadLen uint32, data unsafe.Pointer, dataLen uint32, out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32

//go:wasmimport cloister_v1 error
func hostError(out unsafe.Pointer, size uint32, n unsafe.Pointer) uint32
