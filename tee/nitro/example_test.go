package nitro_test

import (
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
)

// A relying party verifies the document of a real enclave offline, with AWS's
// embedded root, at a time of its choice. This enclave ran in debug mode, which a
// policy would refuse.
func Example() {
	document, err := os.ReadFile("testdata/nitro-2024-debug.cbor")
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := nitro.New()
	evidence := tee.Evidence{Kind: tee.Nitro, Data: document}
	input := tee.Input{At: time.Date(2024, 1, 24, 18, 15, 0, 0, time.UTC)}
	claims, findings, err := verifier.Verify(evidence, input)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("enclave:", claims.InstanceID, "debug:", claims.Debug, "TCB:", claims.TCB)
	fmt.Printf("user data: %q\n", claims.ReportData)
	for _, f := range findings {
		fmt.Println("finding:", f.Code)
	}

	input.At = input.At.AddDate(0, 0, 1)
	_, _, err = verifier.Verify(evidence, input)
	fmt.Println("a day later:", err != nil)
	// Output:
	// enclave: i-0e4fe5de7ee5abe78-enc018d3cadd7d66279 debug: true TCB: Unknown
	// user data: "Hello World!\n"
	// finding: revocation_unknown
	// a day later: true
}
