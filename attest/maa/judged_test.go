package maa_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// TestCollateralOfTokens: a token for SGX names what was judged and what with, and
// nothing of which it is not sure.
func TestCollateralOfTokens(t *testing.T) {
	w := newWorld(t)
	quote := w.quote("held data", nil).Data
	hash := func(b []byte) string {
		digest := sha256.Sum256(b)
		return hex.EncodeToString(digest[:])
	}
	given := w.collateral[tee.SGX].Endorsements.Collateral
	want := map[string]string{"quotehash": hash(quote), "tcbinfohash": hash(given["tcbinfo.json"]), "qeidhash": hash(given["qeidentity.json"])}
	body := map[string]any{"quote": url64(quote)}
	if got := w.token(http.MethodPost, "/attest/SgxEnclave"+version, "", body)["x-ms-sgx-collateral"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	// Two that could have been used.
	in := w.collateral[tee.SGX]
	in.Endorsements.Collateral = maps.Clone(given)
	in.Endorsements.Collateral["another"] = append([]byte{}, append(given["tcbinfo.json"], ' ')...)
	w.collateral[tee.SGX] = in
	delete(want, "tcbinfohash")
	if got := w.token(http.MethodPost, "/attest/SgxEnclave"+version, "", body)["x-ms-sgx-collateral"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestJudged: every signed token is told before it leaves, drafts and refusals are
// not, and what cannot be told is not issued.
func TestJudged(t *testing.T) {
	w := newWorld(t)
	var told []string
	var fails error
	config := w.config()
	config.Judged = func(v *attest.Verified, _ int, tokenID string) error {
		told = append(told, string(v.Claims.TEE)+" "+tokenID)
		return fails
	}
	w.service = w.startWith(config, w.log)
	quote := url64(w.quote("held data", nil).Data)
	got := w.token(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote})
	if len(told) != 1 || told[0] != fmt.Sprint("sgx ", got["jti"]) {
		t.Errorf("told %v of %v", told, got["jti"])
	}
	if status, _ := w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote, "runtimeData": data("Binary", "other")}); status != http.StatusBadRequest || len(told) != 1 {
		t.Errorf("%d, told %v of a refusal", status, told)
	}
	const permit = "version= 1.0; authorizationrules { => permit(); }; issuancerules {};"
	if status, _ := w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote, "draftPolicyForAttestation": permit}); status != http.StatusOK || len(told) != 1 {
		t.Errorf("%d, told %v of a draft", status, told)
	}
	fails = errors.New("the disk is full")
	if status, answer := w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote}); status < 500 {
		t.Errorf("%d %v", status, answer)
	}
}
