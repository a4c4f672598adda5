package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
)

// addEndorsements adds a file, or the files of a directory. Names do not
// matter: what a file is, its content says.
func addEndorsements(en *tee.Endorsements, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return addEndorsement(en, path, true)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := addEndorsement(en, filepath.Join(path, e.Name()), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// addEndorsement adds what one file holds. A file that is no endorsement is an
// error when it was named, and left alone in a directory.
func addEndorsement(en *tee.Endorsements, path string, named bool) error {
	if filepath.Base(path) == "case.json" && !named {
		return nil // the description of a recorded case, not a part of it
	}
	b, err := readLimited(path, collateral.MaxFile+1)
	if err != nil {
		return err
	}
	err = collateral.Read(en, filepath.Base(path), b)
	if errors.Is(err, collateral.ErrUnknown) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("endorsements %s: %w", path, err)
	}
	return nil
}
