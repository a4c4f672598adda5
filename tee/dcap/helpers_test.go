package dcap_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// verifies wants evidence to verify, twice, the second time from memory.
func verifies(t *testing.T, ev tee.Evidence, in tee.Input) *dcap.Result {
	t.Helper()
	var v dcap.Verifier
	first, err := v.Verify(ev.Kind, ev, in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Verify(ev.Kind, ev, in)
	if err != nil || again.Status != first.Status || !slices.Equal(again.Findings, first.Findings) {
		t.Fatalf("the second time: %+v, %v", again, err)
	}
	return first
}

// refuses wants exactly these codes, in any order, each at least once, the first
// time and the second.
func refuses(t *testing.T, ev tee.Evidence, in tee.Input, codes ...tee.Code) {
	t.Helper()
	var v dcap.Verifier
	for range 2 {
		r, err := v.Verify(ev.Kind, ev, in)
		wantCodes(t, r, err, codes...)
	}
}

func wantCodes(t *testing.T, r *dcap.Result, err error, codes ...tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || r != nil {
		t.Fatalf("accepted (%v), want %v", err, codes)
	}
	var got []tee.Code
	for _, f := range e.Failures {
		got = append(got, f.Code)
	}
	slices.Sort(got)
	slices.Sort(codes)
	if got = slices.Compact(got); !slices.Equal(got, codes) {
		t.Fatalf("codes %v, want %v: %v", got, codes, err)
	}
}

func findingCodes(findings []tee.Finding) []tee.Code {
	var codes []tee.Code
	for _, f := range findings {
		codes = append(codes, f.Code)
	}
	return codes
}

// td asks for evidence and collateral about a TD.
var td = dcaptest.QuoteOptions{Type: dcap.TD10Body}

// recordedAt is when the recorded collateral holds.
var recordedAt = time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)

// recordedEndorsements takes a set of collateral apart, as package collateral,
// which is above this one, does.
func recordedEndorsements(t testing.TB, set []byte) tee.Endorsements {
	t.Helper()
	var s map[string]string
	if err := json.Unmarshal(set, &s); err != nil {
		t.Fatal(err)
	}
	e := tee.Endorsements{Collateral: map[string][]byte{
		"tcb":      fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, s["tcb_info"], s["tcb_info_signature"]),
		"identity": fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, s["qe_identity"], s["qe_identity_signature"]),
	}}
	for _, name := range []string{"root_ca_crl", "pck_crl"} {
		der, err := hex.DecodeString(s[name])
		if err != nil {
			t.Fatal(err)
		}
		e.CRLs = append(e.CRLs, der)
	}
	return e
}
