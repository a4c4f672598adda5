package demo

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/internal/tap"
)

// TestModuleIsBuiltFromItsSource builds examples/cohort again: what the hospitals
// allow is what they can read.
func TestModuleIsBuiltFromItsSource(t *testing.T) {
	made, err := os.ReadFile("assets/cohort.goversion")
	if err != nil {
		t.Fatal(err)
	}
	if v := strings.TrimSpace(string(made)); v != runtime.Version() {
		t.Skipf("the module was built with %s and this is %s: other bytes are right", v, runtime.Version())
	}
	out := filepath.Join(t.TempDir(), "cohort.wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "../../examples/cohort")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := unpack()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("assets/cohort.wasm.gz is not examples/cohort as it is now: go generate ./internal/demo")
	}
	z, err := gzip.NewReader(bytes.NewReader(cohortModule))
	if err != nil || !z.ModTime.IsZero() {
		t.Errorf("the compressed file carries a time (%v): it would differ at each build", err)
	}
}

func TestHospitalsHaveDifferentHalves(t *testing.T) {
	a, b, err := newHospitals(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	headA, _, _ := strings.Cut(string(a.table), "\n")
	headB, _, _ := strings.Cut(string(b.table), "\n")
	columns := map[string]int{}
	for _, c := range append(strings.Split(headA, ","), strings.Split(headB, ",")...) {
		columns[c]++
	}
	if columns["patient"] != 2 || columns["malignant"] != 1 || len(columns) != 32 {
		t.Errorf("columns are not split: %v", columns)
	}
	if strings.Contains(headA, "malignant") {
		t.Error("hospital A has diagnoses")
	}
	for _, h := range []*hospital{a, b} {
		if n := bytes.Count(h.table, []byte("\n")); n != 571 { // header, 569 patients, the marker
			t.Errorf("hospital %s has %d lines", h.letter, n)
		}
		sealed, err := h.records()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed, []byte(h.marker)) || bytes.Contains(sealed, h.key) {
			t.Error("the records are not encrypted")
		}
		if _, _, err := h.open(sealed); err == nil {
			t.Error("records open as a result")
		}
	}
	if bytes.Equal(a.key, b.key) {
		t.Error("both hospitals have one key")
	}
}

func secret(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHuntFindsEveryForm hides a secret in every form, at every alignment and
// across the windows in which files are read.
func TestHuntFindsEveryForm(t *testing.T) {
	s := secret(t)
	hidden := map[string]string{
		"raw":                 string(s),
		"hex":                 hex.EncodeToString(s),
		"HEX":                 strings.ToUpper(hex.EncodeToString(s)),
		"base64":              base64.StdEncoding.EncodeToString(s),
		"base64 after one":    base64.StdEncoding.EncodeToString(append([]byte("x"), s...)),
		"base64 after two":    base64.StdEncoding.EncodeToString(append([]byte("xy"), s...)),
		"base64 between":      base64.StdEncoding.EncodeToString(append(append([]byte("four"), s...), "more"...)),
		"base64url":           base64.RawURLEncoding.EncodeToString(append([]byte("abc"), s...)),
		"across two windows":  strings.Repeat("x", 1<<20-10) + string(s),
		"across three":        strings.Repeat("x", 2<<20-70) + hex.EncodeToString(s),
		"at the very end":     strings.Repeat("x", 3<<20) + string(s),
		"right at the border": strings.Repeat("x", 1<<20) + string(s),
	}
	for name, text := range hidden {
		h := newHunt()
		h.add("secret", s, false)
		h.search("disk", "file", strings.NewReader(text))
		if c := h.finish(); c.Hits != 1 {
			t.Errorf("%s: %d hits", name, c.Hits)
		}
	}
	h := newHunt()
	h.add("secret", s, false)
	h.search("disk", "file", strings.NewReader(strings.Repeat("innocent ", 1<<18)))
	if c := h.finish(); c.Hits != 0 || c.Searched[0].Bytes != 9<<18 {
		t.Errorf("innocent: %+v", c)
	}
}

func TestHuntFailsWithoutItsControl(t *testing.T) {
	control := secret(t)
	h := newHunt()
	h.add("control", control, true)
	h.search("disk", "file", bytes.NewReader(control))
	h.search("logs", "log", strings.NewReader("nothing"))
	if h.finish().ControlFound {
		t.Error("the control is missing in the logs, and the hunt is content")
	}
	if newHunt().finish().ControlFound {
		t.Error("a hunt that searched nothing is content")
	}
	h = newHunt()
	h.add("control", control, true)
	h.search("disk", "file", bytes.NewReader(control))
	if c := h.finish(); !c.ControlFound || c.Hits != 0 {
		t.Errorf("the control counts as a hit, or is not found: %+v", c)
	}
}

func TestHuntSeesMemoryOfAProcess(t *testing.T) {
	child := exec.Command("cat")
	s := hex.EncodeToString(secret(t))
	child.Env = []string{"SECRET=" + s}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Skip("no cat here: ", err)
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	// Start returns when the kernel has closed the descriptors of the old
	// program, which is before it has set up the environment of the new one:
	// only a program that answers has both.
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	h := newHunt()
	h.add("secret", []byte(s), false)
	h.process(child.Process.Pid, "cat")
	c := h.finish()
	if len(c.Unsearched) > 0 {
		t.Skip("this host does not let a process look into its child: ", c.Unsearched)
	}
	if all := strings.Join(c.Found, ","); !strings.Contains(all, "memory") || !strings.Contains(all, "environ") {
		t.Errorf("found in %q only", all)
	}
}

func TestHuntSaysWhatItCouldNotSearch(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"+tap.Incomplete), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHunt()
	h.files("traffic", dir, func(string) bool { return false })
	h.search("disk", "bad", io.MultiReader(strings.NewReader("x"), failing{}))
	if c := h.finish(); len(c.Unsearched) != 2 {
		t.Errorf("unsearched: %v, want the gap in the recording and the unreadable file", c.Unsearched)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, os.ErrPermission }

// good is a report of a demo in which all held.
func good() Report {
	r := Report{Canary: Canary{ControlFound: true}}
	r.Result.Patients = wantPatients
	r.Result.Joint, r.Result.Alone = Score{Tested: 100, Correct: 97, AUC: 0.99}, Score{Tested: 100, Correct: 90, AUC: 0.95}
	for _, a := range (&demo{}).attacks() {
		r.Attacks = append(r.Attacks, Attack{Name: a.name, Refused: true})
	}
	r.Receipts = []Receipt{{Action: "release"}, {Action: "release"}}
	return r
}

func TestJudge(t *testing.T) {
	d := &demo{report: good()}
	if d.judge(); !d.report.OK {
		t.Fatalf("a good report fails: %v", d.report.Problems)
	}
	for name, spoil := range map[string]func(*Report){
		"an attack got through":  func(r *Report) { r.Attacks[0].Refused = false },
		"an attack was not made": func(r *Report) { r.Attacks = r.Attacks[1:] },
		"a secret was found":     func(r *Report) { r.Canary.Found = []string{"key on disk"} },
		"no control":             func(r *Report) { r.Canary.ControlFound = false },
		"a place not searched":   func(r *Report) { r.Canary.Unsearched = []string{"memory"} },
		"one release too many":   func(r *Report) { r.Receipts = append(r.Receipts, Receipt{Action: "release"}) },
		"no release":             func(r *Report) { r.Receipts = nil },
		"worse than alone":       func(r *Report) { r.Result.Joint.AUC = 0.9 },
		"patients are missing":   func(r *Report) { r.Result.Patients-- },
		"a poor model":           func(r *Report) { r.Result.Joint.Correct = 60 },
	} {
		d := &demo{report: good()}
		spoil(&d.report)
		if d.judge(); d.report.OK || len(d.report.Problems) == 0 {
			t.Errorf("%s: and the demo says OK", name)
		}
	}
}
