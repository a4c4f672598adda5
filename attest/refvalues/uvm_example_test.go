package refvalues_test

import (
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/attest/refvalues"
)

// What Microsoft says that the utility VM of a confidential container measures.
// The file is what a container finds as reference-info-base64, decoded.
func ExampleVerifyUVM() {
	b, err := os.ReadFile("testdata/uvm-envelope.cose")
	if err != nil {
		panic(err)
	}
	u, err := refvalues.VerifyUVM(b, refvalues.MicrosoftUVM())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s %d %x… %s\n", u.Feed, u.GuestSVN, u.Measurement[:8], u.SignedAt.Format("2006-01-02"))
	// Output:
	// ContainerPlat-AMD-UVM 104 4904167aa9102a75… 2025-12-22
}
