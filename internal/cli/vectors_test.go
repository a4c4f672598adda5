package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
)

// vectors holds real evidence with the verdict that must come out; see its
// README. It is beside this repository, not in it.
const vectors = "../../../shared/vectors/attest"

// reasons maps the word for a refusal in case.json to our codes.
var reasons = map[string]tee.Code{
	"chain": tee.CodeChain, "signature": tee.CodeSignature, "product": tee.CodeProduct, "expired": tee.CodeExpired, "parse": tee.CodeParse,
}

// TestVectors gives every SEV-SNP report to `cloister attest verify`, with the
// whole folder as endorsements, as a user would.
func TestVectors(t *testing.T) {
	cases, err := filepath.Glob(filepath.Join(vectors, "snp-*", "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Skip("the reference evidence is not beside this repository: ", vectors)
	}
	tried := 0
	for _, file := range cases {
		var c struct {
			ID, Format, Expect, At string
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		if c.Format != "snp-report" {
			continue // certificates without a report
		}
		tried++
		t.Run(c.ID, func(t *testing.T) {
			dir := filepath.Dir(file)
			checkVector(t, c.Expect, []string{
				"attest", "verify", "--evidence", filepath.Join(dir, "report.bin"), "--endorsements", dir, "--at", c.At, "-o", "json",
			})
		})
	}
	if tried < 9 {
		t.Errorf("only %d reports were tried", tried)
	}
}

func checkVector(t *testing.T, expect string, args []string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := Main(args, nil, &stdout, &stderr)
	var v verdict
	if err := json.Unmarshal(stdout.Bytes(), &v); err != nil {
		t.Fatalf("no verdict: %v: %s", err, stderr.Bytes())
	}
	if v.TEE != tee.SNP || v.Simulated {
		t.Errorf("TEE %s, simulated %t", v.TEE, v.Simulated)
	}
	if (status == exitOK) != v.Accepted || !v.Accepted && status != exitRefused {
		t.Errorf("exit status %d with accepted %t", status, v.Accepted)
	}
	if words, refused := strings.CutPrefix(expect, "reject:"); refused {
		if v.Verified || v.Accepted {
			t.Fatalf("accepted, want %q", expect)
		}
		for word, code := range reasons {
			if strings.Contains(words, word) && !slices.ContainsFunc(v.Failures, func(f tee.Failure) bool { return f.Code == code }) {
				t.Errorf("failures %v, want %s", v.Failures, code)
			}
		}
		return
	}
	if !v.Verified {
		t.Fatalf("not verified: %v, want %q", v.Failures, expect)
	}
	if debug := strings.Contains(expect, "debug=true"); v.Debug != debug || v.Accepted == debug {
		t.Errorf("debug %t and accepted %t, want %q", v.Debug, v.Accepted, expect)
	}
	if !slices.ContainsFunc(v.Findings, func(f tee.Finding) bool { return f.Code == tee.CodeCollateralMissing }) {
		t.Error("no revocation list was given, and no finding says so")
	}
	if v.TCBStatus != tee.TCBUnknown {
		t.Errorf("TCB status %s without a reference, want Unknown", v.TCBStatus)
	}
}
