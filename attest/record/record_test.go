package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/tdx"
)

func verifier() *attest.Verifier { return attest.NewVerifier(tdx.New(), sgx.New()) }

// world is an Intel, a platform, and cases of it.
type world struct {
	intel *dcaptest.Intel
	p     *dcaptest.Platform
}

func newWorld(t testing.TB) world {
	t.Helper()
	intel := dcaptest.New(t)
	return world{intel, intel.Platform(t, dcaptest.PlatformOptions{})}
}

// cases are of every outcome: accepted, refused by policy, not verified, without
// a policy, with report data, with a policy that does not compile.
func (w world) cases(t testing.TB) map[string]record.Case {
	t.Helper()
	p := attest.HardwareDefault()
	current := p
	current.TCB = []string{string(tee.TCBUpToDate)}
	broken := p
	broken.Rules = []attest.Rule{{Name: "x", Expr: "nonsense("}}
	in := w.intel.Input(t, dcaptest.CollateralOptions{TDX: true})
	ev := w.p.Evidence(t, dcaptest.QuoteOptions{Type: dcap.TD10Body})
	debug := dcaptest.TDBody(dcap.TD10Body)
	debug[120] = 1
	altered := ev
	altered.Data = bytes.Clone(ev.Data)
	altered.Data[200] ^= 1
	unnamed := ev
	unnamed.Kind = ""
	return map[string]record.Case{
		"accepted":       {Evidence: ev, Input: in, Policy: &current},
		"by its bytes":   {Evidence: unnamed, Input: in, Policy: &p},
		"refused":        {Evidence: w.p.Evidence(t, dcaptest.QuoteOptions{Type: dcap.TD10Body, Body: debug}), Input: in, Policy: &p},
		"not verified":   {Evidence: altered, Input: in, Policy: &p},
		"unknown":        {Evidence: tee.Evidence{Data: []byte("junk")}, Input: in, Policy: &p},
		"no policy":      {Evidence: ev, Input: in},
		"bound":          {Evidence: ev, Input: in, Policy: &p, ReportData: bytes.Repeat([]byte{0xD0}, 64)},
		"bound to other": {Evidence: ev, Input: in, Policy: &p, ReportData: make([]byte, 64)},
		"bound to none":  {Evidence: ev, Input: in, Policy: &p, ReportData: []byte{1}},
		"broken policy":  {Evidence: ev, Input: in, Policy: &broken},
		"empty policy":   {Evidence: ev, Input: in, Policy: &attest.Policy{}},
	}
}

// TestReplay judges every case again, in another process's archive and by another
// verifier, and gets the same bytes.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	accepted := map[string]bool{"accepted": true, "by its bytes": true, "no policy": true, "bound": true}
	cases := newWorld(t).cases(t)
	for name, c := range cases {
		r, failures, v := record.Judge(verifier(), c)
		if r.Accepted != accepted[name] || r.Accepted != (len(r.Failures) == 0) || len(failures) != len(r.Failures) || r.Verified != (v != nil) {
			t.Errorf("%s: %+v", name, r)
		}
		for range 2 {
			if _, err := a.Add(c, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	again, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	names, err := again.Names()
	if err != nil || len(names) != len(cases) {
		t.Fatalf("%d records of %d cases, %v", len(names), len(cases), err)
	}
	for _, name := range names {
		if r, err := again.Replay(verifier(), name); err != nil || !r.Same {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestReplayNotices a verifier that judges otherwise.
func TestReplayNotices(t *testing.T) {
	a, err := record.OpenArchive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := newWorld(t).cases(t)["accepted"]
	r, _, _ := record.Judge(verifier(), c)
	r.TokenID = "token" // stays what it was
	name, err := a.Add(c, r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Replay(verifier(), name); err != nil || !got.Same {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := a.Replay(attest.NewVerifier(sgx.New()), name); err != nil || got.Same || got.Different != "accepted" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAltered: no file of an archive can be changed unnoticed.
func TestAltered(t *testing.T) {
	c := newWorld(t).cases(t)["accepted"]
	for _, sub := range []string{"records", "endorsements", "policies"} {
		for what, change := range map[string]func(file string, b []byte) error{
			"removed":   func(f string, _ []byte) error { return os.Remove(f) },
			"truncated": func(f string, b []byte) error { return os.WriteFile(f, b[:len(b)/2], 0o600) },
			"changed": func(f string, b []byte) error {
				for _, pair := range [][2]string{{`"accepted":true`, `"accepted":false`}, {`"tee":"tdx"`, `"tee":"sgx"`}, {`"embedded_roots":false`, `"embedded_roots":true`}, {`"hardware-default"`, `"other"`}} {
					b = bytes.ReplaceAll(b, []byte(pair[0]), []byte(pair[1]))
				}
				return os.WriteFile(f, b, 0o600)
			},
		} {
			dir := t.TempDir()
			a, err := record.OpenArchive(dir)
			if err != nil {
				t.Fatal(err)
			}
			r, _, _ := record.Judge(verifier(), c)
			name, err := a.Add(c, r)
			if err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, sub, "*"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			b, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := change(files[0], b); err != nil {
				t.Fatal(err)
			}
			if got, err := a.Replay(verifier(), name); !errors.Is(err, record.ErrArchive) {
				t.Errorf("%s %s: %+v, %v", sub, what, got, err)
			}
		}
	}
	a, err := record.OpenArchive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "none"} {
		if _, _, err := a.Record(name); !errors.Is(err, record.ErrArchive) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestImpact: a revocation of today tells which of yesterday's verdicts it
// concerns, and no others.
func TestImpact(t *testing.T) {
	w := newWorld(t)
	other := w.intel.Platform(t, dcaptest.PlatformOptions{PPID: [16]byte{0xAA}})
	a, err := record.OpenArchive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	policy := attest.HardwareDefault()
	in := w.intel.Input(t, dcaptest.CollateralOptions{})
	names := map[string]string{}
	for what, ev := range map[string]tee.Evidence{
		"sound": w.p.Evidence(t, dcaptest.QuoteOptions{}), "revoked later": other.Evidence(t, dcaptest.QuoteOptions{}), "junk": {Kind: tee.SGX, Data: []byte("junk")},
	} {
		c := record.Case{Evidence: ev, Input: in, Policy: &policy}
		r, _, _ := record.Judge(verifier(), c)
		if names[what], err = a.Add(c, r); err != nil {
			t.Fatal(err)
		}
	}
	today := w.intel.Endorsements(t, dcaptest.CollateralOptions{Revoked: other.Chain[:1]})
	for what, name := range names {
		i, err := a.Impact(verifier(), name, today, dcaptest.At.AddDate(0, 0, 1))
		if err != nil || (i != nil) != (what == "revoked later") {
			t.Errorf("%s: %+v, %v", what, i, err)
		}
		if i != nil && (i.Platform[:2] != "aa" || i.Refused[0].Code != tee.CodeRevoked || i.TCBWas != tee.TCBUpToDate) {
			t.Errorf("%+v", i)
		}
	}
	if _, err := a.Impact(verifier(), "none", today, dcaptest.At); !errors.Is(err, record.ErrArchive) {
		t.Errorf("%v", err)
	}
}

func Example() {
	tb := &testing.T{}
	dir, err := os.MkdirTemp("", "archive")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	archive, err := record.OpenArchive(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	c := newWorld(tb).cases(tb)["accepted"]
	verdict, _, _ := record.Judge(verifier(), c)
	name, err := archive.Add(c, verdict)
	fmt.Println(verdict.Accepted, err)

	replayed, err := archive.Replay(verifier(), name) // years later
	fmt.Println("same:", replayed.Same, err)
	// Output:
	// true <nil>
	// same: true <nil>
}

func TestNoHints(t *testing.T) {
	r, _, _ := record.Judge(verifier(), newWorld(t).cases(t)["not verified"])
	if b, err := r.Bytes(); err != nil || strings.Contains(string(b), "hint") {
		t.Errorf("%s, %v", b, err)
	}
}

// TestOf: a verdict that was reached elsewhere has the record that judging it again
// makes, whatever it is.
func TestOf(t *testing.T) {
	a, err := record.OpenArchive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range newWorld(t).cases(t) {
		want, failures, v := record.Judge(verifier(), c)
		var refused error
		if len(failures) > 0 {
			refused = &tee.VerifyError{Failures: failures}
		}
		c.Evidence.Kind = verifier().KindOf(c.Evidence)
		got := record.Of(c, v, refused)
		w, err1 := want.Bytes()
		g, err2 := got.Bytes()
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(w, g) {
			t.Errorf("%s: %s\nwant %s, %v", name, g, w, err)
		}
		got.TokenID = "a token"
		id, err := a.Add(c, got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := a.Replay(verifier(), id); err != nil || !again.Same {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
	}
}

// TestShortReportData: what a TPM quotes may be shorter than that of others.
func TestShortReportData(t *testing.T) {
	claims := tee.Claims{TEE: tee.TPM, ReportData: make([]byte, 32)}
	for n, good := range map[int]bool{0: false, 31: false, 32: true, 33: false, 64: false, 65: false} {
		c := record.Case{Evidence: tee.Evidence{Kind: tee.TPM, Data: []byte("x")}, Input: tee.Input{At: at0}, ReportData: make([]byte, n)}
		r, _, _ := record.Judge(attest.NewVerifier(fixed{claims}), c)
		if r.Accepted != good {
			t.Errorf("%d bytes: %+v", n, r)
		}
	}
}

// fixed verifies whatever it is given as the same claims.
type fixed struct{ claims tee.Claims }

func (f fixed) Kind() tee.Kind       { return f.claims.TEE }
func (f fixed) Detect(_ []byte) bool { return true }
func (f fixed) Verify(tee.Evidence, tee.Input) (tee.Claims, []tee.Finding, error) {
	return f.claims, nil, nil
}

// TestOtherEvidence: a record is kept with the evidence that it names, or not at
// all, and evidence that was altered is not surveyed as if it were sound.
func TestOtherEvidence(t *testing.T) {
	dir := t.TempDir()
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := newWorld(t).cases(t)["accepted"]
	r, _, _ := record.Judge(verifier(), c)
	other := c
	other.Evidence.Data = bytes.Clone(c.Evidence.Data)
	other.Evidence.Data[300] ^= 1
	if name, err := a.Add(other, r); !errors.Is(err, record.ErrArchive) {
		t.Errorf("%s, %v", name, err)
	}
	if names, err := a.Names(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := a.Add(c, r); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(segmentOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	b[200] ^= 1
	if err := os.WriteFile(segmentOf(dir), b, 0o600); err != nil {
		t.Fatal(err)
	}
	err = a.ImpactAll(t.Context(), verifier(), c.Input.Endorsements, dcaptest.At, func(name string, i *record.Impact) error {
		t.Errorf("%s: %+v", name, i)
		return nil
	})
	if !errors.Is(err, record.ErrArchive) {
		t.Error(err)
	}
}
