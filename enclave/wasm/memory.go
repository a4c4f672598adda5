package wasm

import "github.com/tetratelabs/wazero/experimental"

// linear is the memory of one instance, and the allocator that the engine gets
// it from, so that it can be read and written without asking the engine. Where
// the system lets us, it lies outside the Go heap in one reservation of its
// limit: growing moves nothing and leaves no garbage behind, and pages that the
// module never touched cost nothing. Elsewhere growing copies it.
type linear struct {
	reserve  func(limit uint64) []byte
	b        []byte // the memory as it is now
	reserved []byte // the address space of all that it may become; nil when there is none
	limit    uint64
}

// Allocate implements [experimental.MemoryAllocator]. A module has one memory at
// most, so this runs once.
func (l *linear) Allocate(_, limit uint64) experimental.LinearMemory {
	l.limit = limit
	if limit > 0 {
		l.reserved = l.reserve(limit)
	}
	return l
}

// Reallocate implements [experimental.LinearMemory].
func (l *linear) Reallocate(size uint64) []byte {
	switch {
	case size > l.limit:
		return nil
	case l.reserved != nil:
		l.b = l.reserved[:size:size]
	default:
		grown := make([]byte, size)
		copy(grown, l.b)
		l.b = grown
	}
	return l.b
}

// Free implements [experimental.LinearMemory].
func (l *linear) Free() {
	release(l.reserved)
	*l = linear{}
}

// holds says that the memory has n bytes at ptr.
func (l *linear) holds(ptr, n uint32) bool { return uint64(ptr)+uint64(n) <= uint64(len(l.b)) }
