package cli

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/tee"
)

// maxEndorsement bounds one file of endorsements in bytes.
const maxEndorsement = 4 << 20

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

// addEndorsement adds the certificates and lists of one file. A file that is
// none of these is an error when it was named, and left alone in a directory.
func addEndorsement(en *tee.Endorsements, path string, named bool) error {
	b, err := readLimited(path, maxEndorsement)
	if err != nil {
		return err
	}
	found := false
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = true
		switch block.Type {
		case "CERTIFICATE":
			en.Certificates = append(en.Certificates, block.Bytes)
		case "X509 CRL":
			en.CRLs = append(en.CRLs, block.Bytes)
		}
	}
	if found {
		return nil
	}
	if _, err := x509.ParseRevocationList(b); err == nil {
		en.CRLs = append(en.CRLs, b)
		return nil
	}
	// A DER sequence that is not a list: a certificate, well-formed or not. The
	// verifier says what is wrong with it.
	if len(b) > 4 && b[0] == 0x30 && b[1] == 0x82 {
		en.Certificates = append(en.Certificates, b)
		return nil
	}
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '{' && filepath.Base(path) != "case.json" {
		if en.Collateral == nil {
			en.Collateral = map[string][]byte{}
		}
		en.Collateral[filepath.Base(path)] = b
		return nil
	}
	if named {
		return fmt.Errorf("endorsements %s: no certificate, CRL or JSON in it", path)
	}
	return nil
}
