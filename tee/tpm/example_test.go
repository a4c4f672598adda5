package tpm_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// A relying party verifies the quote of a real VM, whose attestation key it
// enrolled before.
func Example() {
	data, err := os.ReadFile("testdata/gce-cos85.pb")
	if err != nil {
		fmt.Println(err)
		return
	}
	// In earnest the key was kept when its TPM activated a credential for it. This
	// takes it from the evidence itself, which proves nothing.
	statement, err := tpm.ParseStatement(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	ak, err := tpm.ParsePublic(statement.AKPublic)
	if err != nil {
		fmt.Println(err)
		return
	}
	der, err := x509.MarshalPKIXPublicKey(ak.Key)
	if err != nil {
		fmt.Println(err)
		return
	}
	input := tee.Input{
		At:           time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Endorsements: tee.Endorsements{Collateral: map[string][]byte{tpm.TrustedAK: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}},
	}
	evidence := tee.Evidence{Kind: tee.TPM, Data: data}
	claims, _, err := tpm.New().Verify(evidence, input)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("measurement:", claims.Measurement.String()[:16]+"…")
	fmt.Println("secure boot:", claims.Vendor["secure_boot"], "technology:", claims.Vendor["gce_technology"])

	input.Endorsements.Collateral = nil
	_, _, err = tpm.New().Verify(evidence, input)
	fmt.Println("nobody vouches for the key:", err != nil)
	// Output:
	// measurement: b804fd412b3bafce…
	// secure boot: true technology: sev
	// nobody vouches for the key: true
}
