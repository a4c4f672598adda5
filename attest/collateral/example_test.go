package collateral_test

import (
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
)

// Endorsements come from any files: here Intel's for one platform, in one.
func Example() {
	b, err := os.ReadFile("../../tee/sgx/testdata/v3-collateral.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	var e tee.Endorsements
	err = collateral.Read(&e, "collateral.json", b)
	fmt.Println(len(e.Certificates), "certificates,", len(e.CRLs), "lists,", len(e.Collateral), "documents:", err)
	// Output: 6 certificates, 2 lists, 2 documents: <nil>
}
