package maa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
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

// judgements collects what a service tells.
type judgements struct {
	cases   []record.Case
	records []record.Record
	fails   error
}

func (j *judgements) judged(c record.Case, r record.Record) error {
	j.cases, j.records = append(j.cases, c), append(j.records, r)
	return j.fails
}

// watched has the world's service tell its verdicts.
func (w *world) watched() *judgements {
	w.Helper()
	j := &judgements{}
	c := w.config()
	c.Judged = j.judged
	w.service = w.startWith(c, w.log)
	return j
}

// TestJudged: every verdict is told, of a signed token before it leaves; drafts are
// not, and what cannot be told is not issued.
func TestJudged(t *testing.T) {
	w := newWorld(t)
	j := w.watched()
	quote := url64(w.quote("held data", nil).Data)
	got := w.token(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote})
	if len(j.records) != 1 || !j.records[0].Accepted || j.records[0].TokenID != got["jti"] || j.records[0].TEE != tee.SGX {
		t.Errorf("told %+v of %v", j.records, got["jti"])
	}
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote, "runtimeData": data("Binary", "other")}, 400, "AttestationFailed", "report_data")
	if len(j.records) != 2 || j.records[1].Accepted || j.records[1].TokenID != "" || j.records[1].Failures[0].Code != tee.CodeBinding {
		t.Errorf("told %+v of a refusal", j.records)
	}
	const permit = "version= 1.0; authorizationrules { => permit(); }; issuancerules {};"
	for _, body := range []map[string]any{{"quote": quote, "draftPolicyForAttestation": permit}, {"quote": quote, "nonce": []int{}}} {
		w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", body)
	}
	if len(j.records) != 2 {
		t.Errorf("told %+v of a draft and of no request", j.records)
	}
	j.fails = errors.New("the disk is full")
	if status, answer := w.do(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": quote}); status < 500 {
		t.Errorf("%d %v", status, answer)
	}
	w.refused(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": url64([]byte("x"))}, 400, "AttestationFailed", "")
}

// TestReadCase: every verdict that is told, whatever it is, is reached again from
// what an archive keeps of it; and it is this provider's policy that decides again.
func TestReadCase(t *testing.T) {
	g := newGuest(newWorld(t))
	j := g.watched()
	w := g.world
	w.create(maa.Settings{Name: "mine", GraceDays: 30})
	set := func(text string) {
		t.Helper()
		w.token(http.MethodPut, "/azure/mine/policies/SgxEnclave"+version, "alice", envelope(text))
	}
	ask := func(path string, body any) { w.do(http.MethodPost, path+version, "", body) }
	quote := map[string]any{"quote": url64(w.quote("held data", nil).Data), "runtimeData": data("Binary", "held data"), "nonce": "n"}
	altered := w.quote("x", nil).Data
	altered[100] ^= 1
	real, says := realUVM(t, "uvm-envelope.cose")

	ask("/attest/SgxEnclave", quote)
	ask("/attest/OpenEnclave", map[string]any{"report": quote["quote"]})
	ask("/attest/SgxEnclave", map[string]any{"quote": quote["quote"], "runtimeData": data("Binary", "other")})
	ask("/attest/SgxEnclave", map[string]any{"quote": quote["quote"], "initTimeData": data("Binary", "x")})
	ask("/attest/SgxEnclave", map[string]any{"quote": url64(altered)})
	ask("/attest/SgxEnclave", map[string]any{"quote": url64(make([]byte, tee.MaxEvidence+1))})
	ask("/attest/TdxVm", map[string]any{"quote": url64(w.tdQuote(runtimeJSON, nil).Data), "runtimeData": data("JSON", runtimeJSON)})
	ask("/attest/SevSnpVm", w.snpRequest(runtimeJSON))
	ask("/attest/SevSnpVm", w.snpRequestOf(runtimeJSON, says.Measurement, endorsed(t, real)))
	ask("/attest/SevSnpVm", w.snpRequestOf(runtimeJSON, nil, endorsed(t, real)))
	ask("/attest/AzureGuest", g.request())
	g.change = func(_, tpmInfo, _ map[string]any) { tpmInfo["EncKeyCertifyInfoSignature"] = std64(make([]byte, 256)) }
	ask("/attest/AzureGuest", g.request())
	set(`version= 1.0; authorizationrules { [type=="x-ms-sgx-svn", value>=3] => permit(); }; issuancerules {};`)
	ask("/azure/mine/attest/SgxEnclave", quote)
	set(`version= 1.0; authorizationrules { [type=="x-ms-sgx-svn", value>=4] => permit(); }; issuancerules {};`)
	ask("/azure/mine/attest/SgxEnclave", quote)
	set(permitAll)
	w.now = w.now.AddDate(0, 0, 45) // within the grace of one provider
	ask("/attest/SgxEnclave", quote)
	ask("/azure/mine/attest/SgxEnclave", quote)

	accepted := ""
	a, err := record.OpenArchive(t.TempDir(), record.WithProviders(maa.ReadCase))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range j.cases {
		accepted += map[bool]string{true: "+", false: "-"}[j.records[i].Accepted]
		name, err := a.Add(c, j.records[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.Replay(w.config().Verifier, name); err != nil || !got.Same || got.Accepted != j.records[i].Accepted {
			t.Errorf("verdict %d: %+v, %v\n%+v", i, got, err, j.records[i])
		}
	}
	if accepted != "++----+++-+-+--+" {
		t.Errorf("accepted: %s", accepted)
	}
	// What the policies make of today's collateral: they speak of no TCB status, and
	// so take none that is out of date.
	today := w.intel.Endorsements(t, dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) {
		m["tcbLevels"].([]any)[0].(map[string]any)["tcbStatus"] = tee.TCBOutOfDate
	}})
	var refused []record.Impact
	err = a.ImpactAll(t.Context(), w.config().Verifier, today, dcaptest.At, func(_ string, i *record.Impact) error {
		if i != nil && i.TEE == tee.SGX {
			refused = append(refused, *i)
		}
		return nil
	})
	if err != nil || len(refused) != 4 {
		t.Fatalf("%d verdicts would be refused: %+v, %v", len(refused), refused, err)
	}
	for _, i := range refused {
		if i.Refused[0].Claim != "tcb_status" || i.TCBIs != tee.TCBOutOfDate || i.TokenID == "" {
			t.Errorf("%+v", i)
		}
	}
}

// TestReadCaseRefuses what no service has told.
func TestReadCaseRefuses(t *testing.T) {
	w := newWorld(t)
	j := w.watched()
	w.token(http.MethodPost, "/attest/SgxEnclave"+version, "", map[string]any{"quote": url64(w.quote("held data", nil).Data)})
	good := j.cases[0].Provider
	if _, _, err := maa.ReadCase(good.Policy, good.Request); err != nil {
		t.Fatal(err)
	}
	alter := func(old, text string) []byte {
		if !bytes.Contains(good.Policy, []byte(old)) {
			t.Fatalf("no %s in %s", old, good.Policy)
		}
		return bytes.Replace(good.Policy, []byte(old), []byte(text), 1)
	}
	for name, c := range map[string]struct{ policy, request []byte }{
		"nothing": {nil, nil}, "no policy": {nil, good.Request}, "no request": {good.Policy, nil},
		"another version":   {alter(`"version":1`, `"version":2`), good.Request},
		"another type":      {alter("SgxEnclave", "SevSnpVm"), good.Request},
		"an unknown type":   {alter("SgxEnclave", "Other"), good.Request},
		"the TPM protocol":  {alter("SgxEnclave", "Tpm"), []byte(`{}`)},
		"a negative grace":  {alter(`"collateral_grace_days":0`, `"collateral_grace_days":-1`), good.Request},
		"a long grace":      {alter(`"collateral_grace_days":0`, `"collateral_grace_days":100000`), good.Request},
		"a member more":     {alter(`"version":1`, `"version":1,"x":1`), good.Request},
		"no policy in it":   {alter(`"policy":"`, `"policy":"x`), good.Request},
		"half of a request": {good.Policy, good.Request[:len(good.Request)/2]},
	} {
		if ev, p, err := maa.ReadCase(c.policy, c.request); !errors.Is(err, maa.ErrCase) || p != nil || ev.Data != nil {
			t.Errorf("%s: read, error %v", name, err)
		}
	}
}
