package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// readProvider reads requests of a provider whose policy is the least SVN, and what
// else it takes: collateral that is so many days late.
func readProvider(policy, request []byte) (tee.Evidence, *record.Provider, error) {
	var p struct {
		SVN  uint32 `json:"svn"`
		Days int    `json:"days"`
	}
	var q struct {
		Evidence   tee.Evidence `json:"evidence"`
		ReportData []byte       `json:"report_data"`
	}
	if err := errors.Join(json.Unmarshal(policy, &p), json.Unmarshal(request, &q)); err != nil {
		return tee.Evidence{}, nil, err
	}
	appraise := func(v *attest.Verified) error {
		if v.Claims.SVN < p.SVN {
			return &attest.AppraisalError{Failures: []tee.Failure{{Code: attest.CodeRule, Claim: "svn"}}}
		}
		return nil
	}
	return q.Evidence, &record.Provider{
		Policy: policy, Request: request, Grace: time.Duration(p.Days) * 24 * time.Hour, Appraise: appraise,
		Binding: record.Case{ReportData: q.ReportData}.Binding(),
	}, nil
}

// providerCases are of every outcome.
func (w world) providerCases(t testing.TB) map[string]record.Case {
	t.Helper()
	in, late := w.intel.Input(t, dcaptest.CollateralOptions{}), w.intel.Input(t, dcaptest.CollateralOptions{})
	late.At = late.At.AddDate(0, 0, 31)
	ev := w.p.Evidence(t, dcaptest.QuoteOptions{})
	altered := ev
	altered.Data = bytes.Clone(ev.Data)
	altered.Data[200] ^= 1
	bound := bytes.Repeat([]byte{0xD0}, 64)
	out := map[string]record.Case{}
	for name, c := range map[string]struct {
		policy     string
		ev         tee.Evidence
		reportData []byte
		in         tee.Input
	}{
		"accepted": {`{"svn":0}`, ev, nil, in}, "bound": {`{"svn":0}`, ev, bound, in}, "refused": {`{"svn":99}`, ev, nil, in},
		"bound to other": {`{"svn":0}`, ev, make([]byte, 64), in}, "not verified": {`{"svn":0}`, altered, nil, in},
		"late": {`{"svn":0}`, ev, nil, late}, "late, and patient": {`{"svn":0,"days":30}`, ev, nil, late},
	} {
		request, err := json.Marshal(map[string]any{"evidence": c.ev, "report_data": c.reportData})
		if err != nil {
			t.Fatal(err)
		}
		kept := record.Case{Input: c.in}
		if kept.Evidence, kept.Provider, err = readProvider([]byte(c.policy), request); err != nil {
			t.Fatal(err)
		}
		out[name] = kept
	}
	return out
}

// TestProviders: verdicts of attestation providers are reached again from the policy
// and the request, and weighed again with today's collateral.
func TestProviders(t *testing.T) {
	accepted := map[string]bool{"accepted": true, "bound": true, "late, and patient": true}
	dir := t.TempDir()
	a, err := record.OpenArchive(dir, record.WithProviders(readProvider))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	for name, c := range w.providerCases(t) {
		r, _, _ := record.Judge(verifier(), c)
		if r.Accepted != accepted[name] || r.Request == "" || r.Policy == "" {
			t.Errorf("%s: %+v", name, r)
		}
		id, err := a.Add(c, r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.Replay(verifier(), id); err != nil || !got.Same || got.Accepted != accepted[name] {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if i, err := a.Impact(verifier(), id, c.Input.Endorsements, c.Input.At); err != nil || i != nil {
			t.Errorf("%s, with what it was judged with: %+v, %v", name, i, err)
		}
		today := w.intel.Endorsements(t, dcaptest.CollateralOptions{Revoked: w.p.Chain[:1]})
		i, err := a.Impact(verifier(), id, today, dcaptest.At)
		if err != nil || (i != nil) != accepted[name] || i != nil && i.Refused[0].Code != tee.CodeRevoked {
			t.Errorf("%s, revoked: %+v, %v", name, i, err)
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "policies", "*")); err != nil || len(files) != 3 {
		t.Errorf("%v, %v", files, err)
	}
	blind, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	names, err := blind.Names()
	if err != nil || len(names) != 7 {
		t.Fatal(names, err)
	}
	if got, err := blind.Replay(verifier(), names[0]); !errors.Is(err, record.ErrArchive) || !strings.Contains(err.Error(), "attestation provider") {
		t.Errorf("without a reader: %+v, %v", got, err)
	}
}

// TestProvidersAltered: neither policy nor request can be changed unnoticed.
func TestProvidersAltered(t *testing.T) {
	c := newWorld(t).providerCases(t)["accepted"]
	for what, change := range map[string]func(dir string) error{
		"policy": func(dir string) error {
			files, err := filepath.Glob(filepath.Join(dir, "policies", "*"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			return os.WriteFile(files[0], []byte(`{"svn":1}`), 0o600)
		},
		"no policy": func(dir string) error { return os.RemoveAll(filepath.Join(dir, "policies")) },
		"request": func(dir string) error {
			b, err := os.ReadFile(segmentOf(dir))
			if err != nil {
				return err
			}
			return os.WriteFile(segmentOf(dir), bytes.Replace(b, []byte(`"report_data":null`), []byte(`"report_datA":null`), 1), 0o600)
		},
	} {
		dir := t.TempDir()
		a, err := record.OpenArchive(dir, record.WithProviders(readProvider))
		if err != nil {
			t.Fatal(err)
		}
		r, _, _ := record.Judge(verifier(), c)
		id, err := a.Add(c, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Replay(verifier(), id); !errors.Is(err, record.ErrArchive) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}
