//go:build !unix

package wasm

// reserve is nil: this system has no reservation to offer.
func reserve(uint64) []byte { return nil }

func release([]byte) {}
