package cli

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// vectors holds real evidence with the verdict that must come out; see its
// README. It is beside this repository, not in it.
const vectors = "../../../shared/vectors/attest"

// reasons maps the word for a refusal in case.json to our codes.
var reasons = map[string]tee.Code{
	"chain": tee.CodeChain, "signature": tee.CodeSignature, "product": tee.CodeProduct, "expired": tee.CodeExpired, "parse": tee.CodeParse,
	"binding": tee.CodeBinding, "revoked": tee.CodeRevoked, "qe-identity": tee.CodeQEIdentity, "tcb-signature": tee.CodeTCBSignature,
	"fmspc": tee.CodeFMSPC, "FMSPC": tee.CodeFMSPC, "no-sgx-extension": tee.CodeNoSGXExtension,
	"collateral-expired": tee.CodeCollateralExpired, "collateral expired": tee.CodeCollateralExpired,
}

// evidenceFiles are the names that evidence has in a case.
var evidenceFiles = []string{"quote.bin", "report.bin", "cert.der", "doc.bin", "evidence.json", "hcl-report.bin", "attestation.pb", "dump.json", "token.cbor", "report.txt"}

// undated is the time at which cases are judged that do not depend on one.
const undated = "2025-01-01T00:00:00Z"

// teeNames maps the names of TEEs in case.json to ours, where they differ.
var teeNames = map[string]string{"snp": "sev-snp", "tpm": "tpm-vm", "nvidia": "nvidia-gpu"}

// vectorCase is a case.json.
type vectorCase struct {
	ID, TEE, Format, Expect, At string
	dir, evidence               string
}

// verdictCases are the cases that have evidence for `attest verify`.
func verdictCases(t *testing.T) []vectorCase {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectors, "*", "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the reference evidence is not beside this repository: ", vectors)
	}
	var cases []vectorCase
	for _, file := range files {
		c := vectorCase{dir: filepath.Dir(file)}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		for _, name := range evidenceFiles {
			if exists(filepath.Join(c.dir, name)) {
				c.evidence = filepath.Join(c.dir, name)
				cases = append(cases, c)
				break
			}
		}
	}
	return cases
}

// TestVectors gives every piece of evidence to `cloister attest verify`, with
// the whole folder as endorsements, as a user would. With -v it prints the table
// of `make vectors`.
func TestVectors(t *testing.T) {
	cases := verdictCases(t)
	agreed := 0
	var table strings.Builder
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			v := verifyVector(t, c)
			c.check(t, v)
			agree := "yes"
			if t.Failed() {
				agree = "NO"
			} else {
				agreed++
			}
			fmt.Fprintf(&table, "%-32s %-58s %-46s %s\n", c.ID, clip(c.Expect, 56), clip(v.summary(), 44), agree)
		})
	}
	t.Logf("%d of %d cases agree\n%-32s %-58s %-46s %s\n%s", agreed, len(cases), "CASE", "EXPECTED", "GOT", "AGREE", table.String())
	if len(cases) < 65 {
		t.Errorf("only %d cases have evidence", len(cases))
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n-1] + "…"
	}
	return s
}

// summary is a verdict in a few words.
func (v verdict) summary() string {
	if v.Verified {
		s := "verified; " + string(v.TCBStatus)
		if v.Debug {
			s += "; debug"
		}
		return s
	}
	var codes []string
	for _, f := range v.Failures {
		if !slices.Contains(codes, string(f.Code)) {
			codes = append(codes, string(f.Code))
		}
	}
	return "refused: " + strings.Join(codes, ", ")
}

func verifyVector(t *testing.T, c vectorCase) verdict {
	t.Helper()
	at := c.At
	if at == "" {
		at = undated
	}
	args := []string{"attest", "verify", "--evidence", c.evidence, "--endorsements", c.dir, "--at", at, "-o", "json"}
	if log := filepath.Join(c.dir, "ccel_data.bin"); exists(log) {
		args = append(args, "--event-log", log)
	}
	switch c.TEE {
	case "tpm":
		args = append(args, "--endorsements", enrolled(t, c.evidence))
	case "arm-cca": // Veraison's test key, which its tests have enrolled
		args = append(args, "--endorsements", "testdata/veraison-cpak.pem")
	case "nvidia":
		args = []string{"attest", "verify", "--evidence", deviceEvidence(t, c.dir), "--at", at, "-o", "json"}
	}
	if root := filepath.Join(c.dir, "root.pem"); exists(root) {
		args = append(args, "--roots", root)
	}
	return runVerify(t, args...)
}

// deviceEvidence writes the evidence of a GPU in our JSON form: it brings its
// certificates along.
func deviceEvidence(t *testing.T, dir string) string {
	t.Helper()
	text, err1 := os.ReadFile(filepath.Join(dir, "report.txt"))
	chain, err2 := os.ReadFile(filepath.Join(dir, "chain.txt"))
	data, err3 := hex.DecodeString(strings.TrimSpace(string(text)))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	ev := tee.Evidence{Kind: tee.NvidiaGPU, Data: data}
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		ev.Certificates = append(ev.Certificates, block.Bytes)
	}
	b, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "evidence.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// enrolled writes the attestation key of a TPM to a file, as a relying party has
// it that enrolled the TPM before.
func enrolled(t *testing.T, evidence string) string {
	t.Helper()
	b, err := os.ReadFile(evidence)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tpm.ParseStatement(b)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm.ParsePublic(s.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(ak.Key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ak.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// runVerify runs `attest verify` and wants its status to agree with its output.
func runVerify(t *testing.T, args ...string) verdict {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := Main(args, nil, &stdout, &stderr)
	var v verdict
	if err := json.Unmarshal(stdout.Bytes(), &v); err != nil {
		t.Fatalf("no verdict: %v: %s", err, stderr.Bytes())
	}
	if (status == exitOK) != v.Accepted || !v.Accepted && status != exitRefused {
		t.Errorf("exit status %d with accepted %t", status, v.Accepted)
	}
	return v
}

// check compares a verdict with the words of the case.
func (c vectorCase) check(t *testing.T, v verdict) {
	t.Helper()
	if want := cmp.Or(teeNames[c.TEE], c.TEE); string(v.TEE) != want || v.Simulated {
		t.Errorf("TEE %s, simulated %t, want %s", v.TEE, v.Simulated, want)
	}
	if codes := c.refusal(); codes != nil {
		if v.Verified || v.Accepted {
			t.Fatalf("accepted, want %q", c.Expect)
		}
		for _, code := range codes {
			if !slices.ContainsFunc(v.Failures, func(f tee.Failure) bool { return f.Code == code }) {
				t.Errorf("failures %v, want %s", v.Failures, code)
			}
		}
		return
	}
	if !v.Verified {
		t.Fatalf("not verified: %v, want %q", v.Failures, c.Expect)
	}
	missing := slices.ContainsFunc(v.Findings, func(f tee.Finding) bool { return f.Code == tee.CodeCollateralMissing })
	if c.TEE == "nvidia" {
		if v.Accepted {
			t.Error("a device was accepted in place of a TEE")
		}
		return
	}
	// The default policy refuses debug, and evidence without its collateral.
	if debug := strings.Contains(c.Expect, "debug"); v.Debug != debug || v.Accepted == (debug || missing) {
		t.Errorf("debug %t, collateral missing %t and accepted %t, want %q", v.Debug, missing, v.Accepted, c.Expect)
	}
	status := tee.TCBUnknown
	for _, word := range strings.FieldsFunc(c.Expect, func(r rune) bool { return r == ' ' || r == ';' || r == ',' }) {
		if slices.Contains(tee.TCBStatuses(), tee.TCBStatus(word)) {
			status = tee.TCBStatus(word)
		}
		if strings.HasPrefix(word, "INTEL-SA-") && !strings.Contains(fmt.Sprint(v.Claims[string(v.TEE)]), word) {
			t.Errorf("no advisory %s", word)
		}
	}
	if strings.Contains(c.Expect, "event log replays") || strings.Contains(c.Expect, "secure boot on") {
		branch, _ := v.Claims[strings.ReplaceAll(string(v.TEE), "-", "_")].(map[string]any)
		if _, told := branch["secure_boot"].(bool); !told {
			t.Error("the event log gives no fact about secure boot")
		}
	}
	if c.TEE == "tpm" || c.TEE == "arm-cca" {
		return // its maker publishes no collateral
	}
	if given := exists(filepath.Join(c.dir, "collateral.json")); !given {
		if !missing && !slices.ContainsFunc(v.Findings, func(f tee.Finding) bool { return f.Code == tee.CodeRevocationUnknown }) {
			t.Error("collateral is missing, and no finding says so")
		}
	} else if status == tee.TCBUnknown {
		return // the case does not say which status its collateral gives
	}
	if v.TCBStatus != status {
		t.Errorf("TCB status %s, want %s", v.TCBStatus, status)
	}
}

// refusal is the codes that a case must be refused with; nil when it must not be.
// The debug case of a test platform is refused by policy, not by verification.
func (c vectorCase) refusal() []tee.Code {
	switch {
	case strings.Contains(c.Expect, "TCB not supported"), c.ID == "tdx4-prod-spr":
		// The collateral of the latter is of a day when its platform was already
		// below every level: "TCB level per collateral" is none.
		return []tee.Code{tee.CodeTCBUnsupported}
	case c.ID == "tpm-windows-gcp":
		// Its quote is signed over SHA-1, which nobody should believe today: we
		// refuse what its source's own tests accept (docs/LIMITATIONS.md).
		return []tee.Code{tee.CodeUnsupported}
	case c.ID == "az-snp-hcl-2023":
		return []tee.Code{tee.CodeSignature, tee.CodePlatform}
	case strings.Contains(c.Expect, "is NOT by this HCL AK"), strings.Contains(c.Expect, "needs the quote"):
		return []tee.Code{tee.CodeBinding} // a report without a quote binds nothing
	case strings.Contains(c.Expect, "reject with collateral"), strings.Contains(c.Expect, "with this collateral reject"):
		return []tee.Code{tee.CodeFMSPC}
	case strings.HasPrefix(c.Expect, "reject under the Intel root"):
		return []tee.Code{tee.CodeChain}
	case strings.HasPrefix(c.Expect, "reject:debug"):
		return nil
	}
	words, refused := strings.CutPrefix(c.Expect, "reject:")
	if !refused {
		return nil
	}
	codes := []tee.Code{}
	for word, code := range reasons {
		if strings.Contains(words, word) && (word != "expired" || !strings.Contains(words, "collateral")) && (word != "signature" || !strings.Contains(words, "tcb-")) {
			codes = append(codes, code)
		}
	}
	return codes
}

// TestVectorsWithTheirOwnRoot: what is refused under Intel's root verifies under
// the one that it names.
func TestVectorsWithTheirOwnRoot(t *testing.T) {
	dir := filepath.Join(vectors, "sgx3-intel-sample-testroot")
	if !exists(dir) {
		t.Skip("the reference evidence is not beside this repository: ", vectors)
	}
	v := runVerify(t, "attest", "verify", "--evidence", filepath.Join(dir, "quote.bin"), "--endorsements", dir,
		"--roots", filepath.Join(dir, "trustedRootCaCert.pem"), "--at", "2025-01-01T00:00:00Z", "-o", "json")
	if !v.Verified || v.TEE != tee.SGX || v.TCBStatus != tee.TCBUpToDate {
		t.Errorf("%+v", v)
	}
}
