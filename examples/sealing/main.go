// Command sealing keeps a visit count on the host's disk that the host can
// neither read, change nor set back.
//
// The state is sealed to this code's measurement and, when the program is
// signed and --signer is given, to its signer: then a newer version of the same
// product opens it too. A monotonic counter of the TEE, of the same measurement or
// signer, remembers the digest of the newest state, so an older file is refused, and a crash between the two
// steps is finished by the next run.
//
//	GOOS=wasip1 GOARCH=wasm go build -o sealing.wasm ./examples/sealing
//	cloister instance create --name visits sealing.wasm --restart never
//	cloister instance start visits    # each start counts one more
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/tee"
)

// purpose is bound to the sealed bytes: they open for nothing else.
const purpose = "examples/sealing visits"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sealing:", err)
		if errors.Is(err, errRollback) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

var errRollback = errors.New("rollback: the host gave an older state than the newest one")

func run() error {
	e, err := enclave.Open()
	if err != nil {
		return err
	}
	s := store{enclave: e, counters: e, policy: tee.SealToMeasurement(), path: filepath.Join(e.StateDir(), "visits.sealed")}
	if slices.Contains(e.Self().Args, "--signer") {
		s.counters, s.policy = e.SignerCounters(), tee.SealToSigner(0)
	}
	visits, err := s.load()
	if err != nil {
		return err
	}
	visits++
	if err := s.save(visits); err != nil {
		return err
	}
	fmt.Printf("visit %d\n", visits)
	return nil
}

// store is one number in one sealed file, with a counter that names its newest
// version.
type store struct {
	enclave  *enclave.Enclave
	counters tee.Counters // those that go with the policy
	policy   tee.SealPolicy
	path     string
	counter  uint64 // value that stands for the state last loaded or saved
}

// load returns the newest state. The counter decides what that is: it holds the
// digest of the file.
func (s *store) load() (uint64, error) {
	value, digest, err := s.counters.ReadCounter(context.Background(), "visits")
	if err != nil {
		return 0, err
	}
	s.counter = value
	blob, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && value == 0:
		return 0, nil
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%w: the file is gone", errRollback)
	case err != nil:
		return 0, err
	}
	plain, err := s.enclave.Unseal(blob, []byte(purpose))
	if err != nil {
		return 0, err
	}
	if len(plain) != 16 {
		return 0, errors.New("the state has another size")
	}
	stands, visits := binary.BigEndian.Uint64(plain), binary.BigEndian.Uint64(plain[8:])
	switch {
	case stands == value && sha256.Sum256(blob) == digest:
		return visits, nil
	case stands == value+1:
		// A crash came after the file was written and before the counter moved:
		// the state is whole, so finish the step.
		s.counter = stands
		return visits, s.counters.AdvanceCounter(context.Background(), "visits", value, sha256.Sum256(blob))
	}
	return 0, errRollback
}

// save makes the file durable first and moves the counter second.
func (s *store) save(visits uint64) error {
	plain := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.counter+1), visits)
	blob, err := s.enclave.Seal(s.policy, plain, []byte(purpose))
	if err != nil {
		return err
	}
	if err := writeFile(s.path, blob); err != nil {
		return err
	}
	err = s.counters.AdvanceCounter(context.Background(), "visits", s.counter, sha256.Sum256(blob))
	if err == nil {
		s.counter++
	}
	return err
}

// writeFile replaces path so that a crash leaves the old or the new content.
func writeFile(path string, b []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
