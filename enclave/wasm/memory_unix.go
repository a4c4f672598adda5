//go:build unix

package wasm

import "golang.org/x/sys/unix"

// reserve is address space of limit bytes that read as zero and cost nothing
// until they are written, or nil when there is none.
func reserve(limit uint64) []byte {
	b, err := unix.Mmap(-1, 0, int(limit), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	return b
}

// release gives reserved address space back.
func release(b []byte) {
	if b != nil {
		_ = unix.Munmap(b)
	}
}
