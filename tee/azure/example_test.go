package azure_test

import (
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
)

// A relying party verifies the evidence of a real Azure VM offline, at a time of
// its choice.
func Example() {
	data, err := os.ReadFile("testdata/snp-evidence.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := azure.NewSNP(snp.New())
	evidence := tee.Evidence{Kind: tee.AzureSNP, Data: data}
	claims, _, err := verifier.Verify(evidence, tee.Input{At: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		fmt.Println(err)
		return
	}
	settings, _ := claims.Vendor["vm_configuration"].(map[string]any)
	fmt.Println("paravisor:", claims.Measurement.String()[:16]+"…")
	fmt.Printf("report data: %q\n", claims.ReportData)
	fmt.Println("VM:", claims.InstanceID, "secure boot:", settings["secure_boot"])
	// Output:
	// paravisor: 6a063be9dd79f637…
	// report data: "challenge"
	// VM: 26F8BC30-774E-4290-8E7A-535F3B672AEE secure boot: true
}
