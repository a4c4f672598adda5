package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/cca"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// MaxFile is the largest file of endorsements, in bytes.
const MaxFile = 4 << 20

// ErrUnknown means that a file is no certificate, revocation list or document.
var ErrUnknown = errors.New("no certificate, revocation list or JSON document in it")

// Read adds what a file holds to e: certificates and revocation lists in PEM or
// DER, public keys of enrolled TPMs and Arm platforms in PEM (tpm.TrustedAK, cca.TrustedCPAK), a list in hex (as PCCS gives the root's), a set of Intel's collateral in
// one JSON object (the form of quote verification libraries, see [IsIntelSet]), a
// bundle, or another JSON document, which is kept under name. It returns [ErrUnknown]
// for anything else; a set that is incomplete is another error.
func Read(e *tee.Endorsements, name string, b []byte) error {
	if IsBundle(b) {
		bundle, err := ParseBundle(b)
		if err != nil {
			return err
		}
		return bundle.addTo(e)
	}
	if len(b) > MaxFile {
		return fmt.Errorf("%d bytes, at most %d", len(b), MaxFile)
	}
	if readPEM(e, b) {
		return nil
	}
	if der, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil && isList(der) {
		b = der
	}
	text := bytes.TrimSpace(b)
	switch {
	case isList(b):
		e.CRLs = append(e.CRLs, b)
	case len(b) > 4 && b[0] == 0x30 && b[1] == 0x82:
		// A DER sequence that is no list: a certificate, well-formed or not. The
		// verifier says what is wrong with it.
		e.Certificates = append(e.Certificates, b)
	case len(text) > 0 && text[0] == '{' && IsIntelSet(text):
		return readIntelSet(e, name, text)
	case len(text) > 0 && text[0] == '{' && json.Valid(text):
		keep(e, name, b)
	default:
		return ErrUnknown
	}
	return nil
}

func isList(der []byte) bool {
	_, err := x509.ParseRevocationList(der)
	return err == nil
}

// readPEM reads every block and says whether there was one.
func readPEM(e *tee.Endorsements, b []byte) bool {
	found := false
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return found
		}
		found = true
		switch block.Type {
		case "CERTIFICATE":
			e.Certificates = append(e.Certificates, block.Bytes)
		case "X509 CRL":
			e.CRLs = append(e.CRLs, block.Bytes)
		case "PUBLIC KEY":
			// The key of a TPM, or of a platform of Arm CCA, that was enrolled; a
			// relying party may have several.
			for _, name := range []string{tpm.TrustedAK, cca.TrustedCPAK} {
				keep(e, name, append(e.Collateral[name], pem.EncodeToMemory(block)...))
			}
		}
	}
}

func keep(e *tee.Endorsements, name string, b []byte) {
	if e.Collateral == nil {
		e.Collateral = map[string][]byte{}
	}
	e.Collateral[name] = b
}
