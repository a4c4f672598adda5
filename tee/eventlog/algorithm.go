package eventlog

import (
	"crypto"
	_ "crypto/sha1" //nolint:gosec // the digest of old logs; see Algorithm
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"slices"
)

// Algorithm is a TPM_ALG_ID of a hash ("TCG Algorithm Registry" section 6). With
// SHA1 somebody who chooses what is measured can prepare two things with one
// digest; what honest firmware measured of its own stands.
type Algorithm uint16

// The hashes of event logs and PCR banks.
const (
	SHA1   Algorithm = 0x0004
	SHA256 Algorithm = 0x000B
	SHA384 Algorithm = 0x000C
	SHA512 Algorithm = 0x000D
)

// Algorithms returns the known hashes, the weakest first.
func Algorithms() []Algorithm { return []Algorithm{SHA1, SHA256, SHA384, SHA512} }

// Known reports whether a is one of [Algorithms].
func (a Algorithm) Known() bool { return slices.Contains(Algorithms(), a) }

// Hash is the same for package crypto, 0 when a is not known.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case SHA1:
		return crypto.SHA1
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	default:
		return 0
	}
}

// Size is the length of a digest in bytes, 0 when a is not known.
func (a Algorithm) Size() int {
	if !a.Known() {
		return 0
	}
	return a.Hash().Size()
}

// Sum returns the digest of the parts put together, nil when a is not known.
func (a Algorithm) Sum(parts ...[]byte) []byte {
	if !a.Known() {
		return nil
	}
	h := a.Hash().New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// String is the name in claims: "sha256".
func (a Algorithm) String() string {
	switch a {
	case SHA1:
		return "sha1"
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	default:
		return fmt.Sprintf("algorithm %#x", uint16(a))
	}
}
