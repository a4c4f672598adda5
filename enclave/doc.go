// Package enclave is the SDK for code that runs inside a TEE instance. The same
// program runs on every TEE and on the software TEE of a laptop; it compiles as
// a native Linux program (a static executable) and as a WASI preview 1 command
// (GOOS=wasip1 GOARCH=wasm).
//
//	e, err := enclave.Open()
//	key, err := e.Secret("data-key")   // released to this very code, or refused
//	data, err := e.Input("data")       // bytes from the host: untrusted
//	err = e.Output("result", sealed)   // goes to the host: encrypt it first
//
// # What it protects against
//
// With a hardware TEE: everyone outside the instance, the host's root included.
// Secrets arrive only after a verifier has checked evidence of this code.
//
// # What it does not protect against
//
// With the software TEE: the host (see [Identity].Simulated). On every TEE:
// inputs, outputs, files under [Enclave.StateDir] and the clock belong to the
// host; memory-access patterns and timing may leak (package oblivious).
package enclave
