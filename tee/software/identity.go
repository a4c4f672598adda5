package software

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// measurementDomain separates measurements from every other digest.
const measurementDomain = "cloister software TEE measurement v1"

// Expect returns the measurement of a launch: SHA-256 over a domain string, the
// runtime digest and the launch digest, each preceded by its length as 8 bytes
// big endian. It is pure, so the measurement is known before anything starts.
func Expect(runtime, launchDigest [32]byte) tee.Measurement {
	h := sha256.New()
	var n [8]byte
	for _, field := range [][]byte{[]byte(measurementDomain), runtime[:], launchDigest[:]} {
		binary.BigEndian.PutUint64(n[:], uint64(len(field)))
		h.Write(n[:])
		h.Write(field)
	}
	return h.Sum(nil)
}

// RuntimeDigest returns the SHA-256 of the executable that runs, read once per
// process (on Linux from /proc/self/exe, so an upgrade that replaced the file
// meanwhile does not change the answer). It is safe for concurrent use.
func RuntimeDigest() ([32]byte, error) { return ownDigest() }

var ownDigest = sync.OnceValues(hashExecutable)

func hashExecutable() ([32]byte, error) {
	var none [32]byte
	path := "/proc/self/exe"
	if runtime.GOOS != "linux" {
		p, err := os.Executable()
		if err != nil {
			return none, fmt.Errorf("find the running executable: %w", err)
		}
		path = p
	}
	f, err := os.Open(path)
	if err != nil {
		return none, fmt.Errorf("measure the running executable: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return none, fmt.Errorf("measure the running executable: %w", err)
	}
	return [32]byte(h.Sum(nil)), nil
}
