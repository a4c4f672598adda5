package cca_test

import (
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/cca"
	"github.com/cloister-cc/cloister/tee/cca/ccatest"
)

// A relying party that enrolled a platform's key verifies a realm's token.
func Example() {
	token, err := os.ReadFile("testdata/veraison-token.cbor")
	if err != nil {
		fmt.Println(err)
		return
	}
	enrolled := map[string][]byte{cca.TrustedCPAK: []byte(veraisonKey)}
	claims, _, err := cca.New().Verify(tee.Evidence{Kind: tee.ArmCCA, Data: token}, tee.Input{At: ccatest.At, Endorsements: tee.Endorsements{Collateral: enrolled}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("realm:", claims.Measurement.String()[:16]+"…")
	fmt.Println("platform:", claims.Platform[:16]+"…", claims.Vendor["lifecycle"])
	// Output:
	// realm: 4343434343434343…
	// platform: 51b944cdfa544d4c… secured
}
