package sgx_test

import (
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/sgx"
)

// A relying party verifies the quote of a real enclave offline, with Intel's
// embedded root and Intel's collateral of that day, at a time of its choice.
func Example() {
	quote := must(os.ReadFile("testdata/v3-quote.bin"))
	// Package collateral reads Intel's collateral from files as others write them.
	given := endorsements(must(os.ReadFile("testdata/v3-collateral.json")))
	claims, findings, err := sgx.New().Verify(tee.Evidence{Kind: tee.SGX, Data: quote}, tee.Input{At: at, Endorsements: given})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("MRENCLAVE:", claims.Measurement.String()[:16]+"…")
	fmt.Println("debug:", claims.Debug, "findings:", len(findings))
	fmt.Println("TCB:", claims.TCB, claims.Vendor["advisories"])
	// Output:
	// MRENCLAVE: 33d8736db756ed49…
	// debug: false findings: 0
	// TCB: ConfigurationAndSWHardeningNeeded [INTEL-SA-00289 INTEL-SA-00615]
}
