package wasm

// onHeap is a module's memory where none can be reserved; growing copies it.
type onHeap struct {
	b     []byte
	limit uint64
}

// Reallocate implements experimental.LinearMemory.
func (h *onHeap) Reallocate(size uint64) []byte {
	if size > h.limit {
		return nil
	}
	grown := make([]byte, size)
	copy(grown, h.b)
	h.b = grown
	return grown
}

// Free implements experimental.LinearMemory.
func (h *onHeap) Free() { h.b = nil }
