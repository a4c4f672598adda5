package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Keep is which verdicts the node keeps records of.
type Keep string

// What can be kept. A node that is told nothing keeps KeepReleases.
const (
	KeepNone     Keep = "none"
	KeepReleases Keep = "releases" // those that led to the release of a key
	KeepAll      Keep = "all"      // those that led to any attestation result or refusal, too
)

// VerdictsDir is the archive of records in the node's state directory.
const VerdictsDir = "verdicts"

// keepFile is where the host tells the node, in its state directory.
const keepFile = "keep-verdicts"

// Valid says whether k is one of those above.
func (k Keep) Valid() bool { return k == KeepNone || k == KeepReleases || k == KeepAll }

// ReadKeep reads what the host wants to have kept from the node's state directory.
func ReadKeep(state string) (Keep, error) {
	b, err := os.ReadFile(filepath.Join(state, keepFile))
	if errors.Is(err, fs.ErrNotExist) {
		return KeepReleases, nil
	}
	if err != nil {
		return "", err
	}
	if k := Keep(b); k.Valid() {
		return k, nil
	}
	return "", fmt.Errorf("%s: want none, releases or all", keepFile)
}

// WriteKeep tells the node, which reads it when it starts.
func (p Paths) WriteKeep(k Keep) error {
	if !k.Valid() {
		return fmt.Errorf("verdicts to keep: %q: want none, releases or all", k)
	}
	if err := os.MkdirAll(p.NodeState(), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(p.NodeState(), keepFile), []byte(k), 0o600)
}
