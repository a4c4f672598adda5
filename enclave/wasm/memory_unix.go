//go:build unix

package wasm

import (
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// reserved allocates a module's memory outside the Go heap, as one reservation
// of its limit: growing moves nothing and leaves no garbage behind, and pages
// that the module never touched cost nothing.
type reserved struct{}

// Allocate implements [experimental.MemoryAllocator].
func (reserved) Allocate(_, limit uint64) experimental.LinearMemory {
	if limit == 0 {
		return &reservation{}
	}
	b, err := unix.Mmap(-1, 0, int(limit), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return &onHeap{limit: limit}
	}
	return &reservation{b}
}

type reservation struct{ b []byte }

// Reallocate implements [experimental.LinearMemory].
func (r *reservation) Reallocate(size uint64) []byte {
	if size > uint64(len(r.b)) {
		return nil
	}
	return r.b[:size:size]
}

// Free implements [experimental.LinearMemory].
func (r *reservation) Free() {
	if r.b != nil {
		_ = unix.Munmap(r.b)
		r.b = nil
	}
}
