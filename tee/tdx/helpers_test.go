package tdx_test

import (
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// at is when the recorded collateral holds.
var at = time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// recorded is the quote in testdata with Intel's collateral.
func recorded(tb testing.TB) (tee.Evidence, tee.Input) {
	tb.Helper()
	return tee.Evidence{Kind: tee.TDX, Data: must(os.ReadFile("testdata/v4-quote.bin"))},
		tee.Input{At: at, Endorsements: endorsements(must(os.ReadFile("testdata/v4-collateral.json")))}
}

// endorsements takes a set of collateral apart, as package collateral, which is
// above this one, does.
func endorsements(b []byte) tee.Endorsements {
	var s map[string]string
	if err := json.Unmarshal(b, &s); err != nil {
		panic(err)
	}
	e := tee.Endorsements{Collateral: map[string][]byte{
		"tcb":      fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, s["tcb_info"], s["tcb_info_signature"]),
		"identity": fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, s["qe_identity"], s["qe_identity_signature"]),
	}}
	for _, name := range []string{"root_ca_crl", "pck_crl"} {
		e.CRLs = append(e.CRLs, must(hex.DecodeString(s[name])))
	}
	for rest := []byte(s["tcb_info_issuer_chain"]); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return e
		}
		e.Certificates = append(e.Certificates, block.Bytes)
	}
}
