package cmw_test

import (
	"fmt"

	"github.com/cloister-cc/cloister/attest/cmw"
	"github.com/cloister-cc/cloister/tee"
)

// An attester wraps its evidence; a verifier takes it out again, whichever form
// it came in.
func Example() {
	m, err := cmw.FromEvidence(tee.Evidence{Kind: tee.TDX, Data: []byte("a quote")})
	if err != nil {
		panic(err)
	}
	wrapped, err := m.MarshalJSON()
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", wrapped)

	received, err := cmw.Parse(wrapped)
	if err != nil {
		panic(err)
	}
	ev, err := cmw.Evidence(received)
	fmt.Printf("%s %s %v\n", ev.Kind, ev.Data, err)
	// Output:
	// ["application/vnd.cloister.evidence; tee=tdx","YSBxdW90ZQ",4]
	// tdx a quote <nil>
}
