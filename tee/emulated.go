//go:build !wasip1

package tee

import (
	"crypto/x509"
	"slices"
)

// emulatedTPM is a certificate policy of our own: an identifier made from a UUID
// (ITU-T X.667), which needs nobody's registration.
const emulatedTPM = "2.25.9309198433796232493105536538355255954"

// EmulatedTPM is the certificate policy (RFC 5280 section 4.2.1.4) of keys in an
// emulated TPM, whose host can read and change everything in it. Whoever
// certifies such a key puts it into the certificate, and a verifier then says
// simulated: nothing else tells an emulator from a chip.
func EmulatedTPM() x509.OID {
	oid, err := x509.ParseOID(emulatedTPM)
	if err != nil {
		panic(err) // constant
	}
	return oid
}

// IsEmulatedTPM reports whether a certificate says that its key is in an emulated
// TPM.
func IsEmulatedTPM(c *x509.Certificate) bool {
	return c != nil && slices.ContainsFunc(c.Policies, EmulatedTPM().Equal)
}
