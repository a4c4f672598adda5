package agent

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// vaultSize bounds all secrets of an instance together, in bytes.
const vaultSize = 256 << 10

// vault keeps secrets in memory that the kernel takes out of its own map
// (memfd_secret(2)): /proc/PID/mem, process_vm_readv and core dumps do not reach
// it, not even for root. Copies that pass through the Go heap while in use do
// not enjoy that.
type vault struct {
	mem    []byte
	used   int
	secret bool
}

// newVault maps the memory. Where the kernel has no memfd_secret it falls back
// to ordinary memory that is locked against swapping, and says so.
func newVault() (*vault, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return anonymousVault()
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Ftruncate(fd, vaultSize); err != nil {
		return anonymousVault()
	}
	mem, err := unix.Mmap(fd, 0, vaultSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return anonymousVault()
	}
	// Touch it once: a limit on locked memory must show now, not as SIGBUS later.
	if err := unix.Madvise(mem, unix.MADV_POPULATE_WRITE); err != nil && !errors.Is(err, unix.EINVAL) {
		_ = unix.Munmap(mem)
		return anonymousVault()
	}
	return &vault{mem: mem, secret: true}, nil
}

func anonymousVault() (*vault, error) {
	mem, err := unix.Mmap(-1, 0, vaultSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map memory for secrets: %w", err)
	}
	_ = unix.Mlock(mem)
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	return &vault{mem: mem}, nil
}

// put moves b into the vault and clears the original. The result stays valid
// until [vault.wipe].
func (v *vault) put(b []byte) ([]byte, error) {
	if len(b) > len(v.mem)-v.used {
		return nil, fmt.Errorf("secrets are larger than %d bytes together", vaultSize)
	}
	kept := v.mem[v.used : v.used+len(b) : v.used+len(b)]
	copy(kept, b)
	v.used += len(b)
	clear(b)
	return kept, nil
}

// wipe clears all secrets.
func (v *vault) wipe() {
	clear(v.mem[:v.used])
	v.used = 0
}
