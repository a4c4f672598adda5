package tdx_test

import (
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// A relying party verifies the quote of a real TD offline, with Intel's
// embedded root and Intel's collateral of that day, at a time of its choice.
func Example() {
	quote := must(os.ReadFile("testdata/v4-quote.bin"))
	// Package collateral reads Intel's collateral from files as others write them.
	given := endorsements(must(os.ReadFile("testdata/v4-collateral.json")))
	claims, findings, err := tdx.New().Verify(tee.Evidence{Kind: tee.TDX, Data: quote}, tee.Input{At: at, Endorsements: given})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("MRTD:", claims.Measurement.String()[:16]+"…")
	fmt.Println("debug:", claims.Debug, "TCB:", claims.TCB)
	for _, f := range findings {
		fmt.Println(f.Code)
	}
	// Output:
	// MRTD: 91eb2b44d141d4ec…
	// debug: false TCB: UpToDate
	// trailing_bytes
}
