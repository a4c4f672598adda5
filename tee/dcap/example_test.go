package dcap_test

import (
	"fmt"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// A relying party without hardware tests what it does with a platform whose
// firmware is old: dcaptest plays Intel, and gives it evidence of any kind.
func Example() {
	tb := &testing.T{}
	intel := dcaptest.New(tb)
	components := dcaptest.CurrentComponents
	components[0]-- // one component of the firmware is older than the newest level
	old := intel.Platform(tb, dcaptest.PlatformOptions{Components: components})

	ev := old.Evidence(tb, dcaptest.QuoteOptions{Type: dcap.TD10Body})
	in := intel.Input(tb, dcaptest.CollateralOptions{TDX: true})
	var v dcap.Verifier
	r, err := v.Verify(tee.TDX, ev, in)
	fmt.Println(err, r.Status, r.Advisories)
	// Output: <nil> OutOfDate [INTEL-SA-99999]
}
