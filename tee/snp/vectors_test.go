package snp_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// vectorsDir holds real evidence. It is beside the repository, not in it.
const vectorsDir = "../../../shared/vectors/attest"

// vector is one case of the vectors with the verdict that its case.json gives in
// words: codes are all failures that must be among those found, none means that
// it verifies.
type vector struct {
	id    string
	codes []tee.Code
	debug bool
}

var vectors = []vector{
	{id: "snp-genoa-v5-oak"},
	{id: "snp-milan-v2"},
	{id: "snp-milan-v2-badvcek-legacy", codes: []tee.Code{tee.CodeChain, tee.CodePlatform, tee.CodeSignature}},
	{id: "snp-milan-v2-debug", debug: true},
	{id: "snp-milan-v3-oak"},
	{id: "snp-milan-v5-gcp"},
	{id: "snp-milan-vlek-expired", codes: []tee.Code{tee.CodeExpired}},
	{id: "snp-tamper-measurement", codes: []tee.Code{tee.CodeSignature}},
	{id: "snp-wrong-product-chain", codes: []tee.Code{tee.CodeProduct, tee.CodePlatform, tee.CodeSignature}},
}

// notReports are the cases that have no report; other tests use them.
var notReports = []string{"snp-roots-amd", "snp-turin-vcek-only"}

// vectorEvidence reads a case. Certificates in PEM files become DER.
func vectorEvidence(tb testing.TB, id string) (tee.Evidence, tee.Input) {
	tb.Helper()
	dir := filepath.Join(vectorsDir, id)
	names, err := os.ReadDir(dir)
	if err != nil {
		tb.Skipf("no vectors: %v; this test needs ../shared/vectors/attest beside the repository", err)
	}
	ev, in := tee.Evidence{Kind: tee.SNP}, tee.Input{}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		switch {
		case n.Name() == "report.bin":
			ev.Data = b
		case n.Name() == "case.json":
			in.At = caseTime(tb, b)
		case strings.HasSuffix(n.Name(), ".der"):
			ev.Certificates = append(ev.Certificates, b)
		case strings.HasSuffix(n.Name(), ".pem"):
			for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
				ev.Certificates = append(ev.Certificates, block.Bytes)
			}
		}
	}
	return ev, in
}

func caseTime(tb testing.TB, b []byte) time.Time {
	tb.Helper()
	var c struct{ At *time.Time }
	if err := json.Unmarshal(b, &c); err != nil {
		tb.Fatal(err)
	}
	if c.At == nil {
		return time.Time{}
	}
	return *c.At
}

func TestVectors(t *testing.T) {
	v := snp.New()
	for _, c := range vectors {
		t.Run(c.id, func(t *testing.T) {
			ev, in := vectorEvidence(t, c.id)
			for range 2 { // the second time by remembered certificates
				checkVector(t, v, c, ev, in)
			}
			// Endorsements do as well as certificates beside the evidence, in any order.
			slices.Reverse(ev.Certificates)
			in.Endorsements.Certificates, ev.Certificates = ev.Certificates, nil
			checkVector(t, snp.New(), c, ev, in)
		})
	}
}

func checkVector(t *testing.T, v *snp.Verifier, c vector, ev tee.Evidence, in tee.Input) {
	t.Helper()
	claims, _, err := v.Verify(ev, in)
	if len(c.codes) > 0 {
		wantCodes(t, claims, err, c.codes...)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if claims.TEE != tee.SNP || claims.Simulated || claims.Debug != c.debug || len(claims.Measurement) != 48 || len(claims.ReportData) != 64 {
		t.Errorf("claims %+v", claims)
	}
}

// TestAzureReports verifies the reports that Azure's paravisor wraps (they stand
// at byte 32 of an HCL report) as a verifier of its vTPM would.
func TestAzureReports(t *testing.T) {
	for id, c := range map[string]struct {
		codes []tee.Code
	}{
		"az-snp-hcl-trustee": {nil},
		"az-snp-hcl-2023":    {[]tee.Code{tee.CodePlatform, tee.CodeSignature}}, // of another chip
	} {
		t.Run(id, func(t *testing.T) {
			ev, in := vectorEvidence(t, id)
			hcl, err := os.ReadFile(filepath.Join(vectorsDir, id, "hcl-report.bin"))
			if err != nil {
				t.Fatal(err)
			}
			ev.Data = hcl[32:][:snp.ReportSize]
			claims, _, err := snp.New().Verify(ev, in)
			if len(c.codes) > 0 {
				wantCodes(t, claims, err, c.codes...)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestVectorsAreComplete fails when a case was added that no test names.
func TestVectorsAreComplete(t *testing.T) {
	dirs, _ := filepath.Glob(filepath.Join(vectorsDir, "snp-*"))
	if len(dirs) == 0 {
		t.Skip("no vectors: this test needs ../shared/vectors/attest beside the repository")
	}
	for _, d := range dirs {
		id := filepath.Base(d)
		if !slices.Contains(notReports, id) && !slices.ContainsFunc(vectors, func(v vector) bool { return v.id == id }) {
			t.Errorf("%s is not tested", id)
		}
	}
}

// wantCodes checks that verification refused with exactly these codes, each at
// least once, and gave no claims.
func wantCodes(t testing.TB, claims tee.Claims, err error, codes ...tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || e.Kind != tee.SNP || !errors.Is(err, tee.ErrNotVerified) {
		t.Fatalf("got %v, want a *tee.VerifyError with %v", err, codes)
	}
	var got []tee.Code
	for _, f := range e.Failures {
		if !slices.Contains(got, f.Code) {
			got = append(got, f.Code)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(codes))
	if !slices.Equal(got, want) {
		t.Fatalf("refused with %v, want %v: %v", got, want, err)
	}
	if claims.TEE != "" || claims.Measurement != nil || claims.Vendor != nil {
		t.Fatalf("claims beside an error: %+v", claims)
	}
}
