package snp_test

import (
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// A relying party verifies the report of a real machine offline, with AMD's
// embedded roots, at a time of its choice.
func Example() {
	report, err := os.ReadFile("testdata/milan-v3-report.bin")
	if err != nil {
		fmt.Println(err)
		return
	}
	vcek, err := os.ReadFile("testdata/milan-v3-vcek.der")
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := snp.New()
	evidence := tee.Evidence{Kind: tee.SNP, Data: report}
	input := tee.Input{
		At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Endorsements: tee.Endorsements{
			Certificates: [][]byte{vcek},
			Collateral:   map[string][]byte{snp.MinimumTCB: []byte(`{"Milan": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}}`)},
		},
	}
	claims, findings, err := verifier.Verify(evidence, input)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("measurement:", claims.Measurement.String()[:16]+"…")
	fmt.Println("product:", claims.Vendor["product"], "debug:", claims.Debug, "TCB:", claims.TCB)
	for _, f := range findings {
		fmt.Println("finding:", f.Code)
	}

	input.At = time.Date(2033, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, _, err := verifier.Verify(evidence, input); err != nil {
		fmt.Println(err)
	}
	// Output:
	// measurement: 195b01b74976a1fa…
	// product: Milan debug: false TCB: UpToDate
	// finding: collateral_missing
	// sev-snp evidence does not verify: expired: vcek: want valid at 2033-01-01T00:00:00Z, got valid from 2025-01-15T21:21:54Z to 2032-01-15T21:21:54Z
}

// Without its VCEK a report cannot be verified; the failure says where it is.
func ExampleKDSURL() {
	report, err := os.ReadFile("testdata/milan-v3-report.bin")
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := snp.ParseReport(report)
	if err != nil {
		fmt.Println(err)
		return
	}
	url := snp.KDSURL(r, snp.Milan)
	fmt.Println(url[:40] + "…" + url[len(url)-44:])
	// Output:
	// https://kdsintf.amd.com/vcek/v1/Milan/a3…e4?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219
}
