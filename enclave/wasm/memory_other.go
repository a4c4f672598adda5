//go:build !unix

package wasm

import "github.com/tetratelabs/wazero/experimental"

// reserved allocates a module's memory on the Go heap: this system has no
// reservation to offer.
type reserved struct{}

// Allocate implements [experimental.MemoryAllocator].
func (reserved) Allocate(_, limit uint64) experimental.LinearMemory { return &onHeap{limit: limit} }
