package record_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// at0 is some time.
var at0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestImpactAllIsImpact: the survey says of each record what Impact says of it
// alone, whatever they share: two platforms, one revoked since, under all policies
// and bindings, with two sets of certificates, at many times.
func TestImpactAllIsImpact(t *testing.T) {
	w := newWorld(t)
	other := w.intel.Platform(t, dcaptest.PlatformOptions{PPID: [16]byte{0xAA}})
	a, err := record.OpenArchive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	all := func(yield func(record.Case, record.Record) bool) {
		cases := w.cases(t)
		revoked := w
		revoked.p = other
		for name, c := range revoked.cases(t) {
			cases["revoked "+name] = c
		}
		for _, c := range cases {
			for hour := range 40 {
				if hour%2 == 1 { // the same endorsements with one more certificate
					c.Input.Endorsements.Certificates = append(slices.Clip(c.Input.Endorsements.Certificates), w.p.Chain[0].Raw)
				}
				c.Input.At = dcaptest.At.Add(time.Duration(hour) * time.Minute)
				r, _, _ := record.Judge(verifier(), c)
				if !yield(c, r) {
					return
				}
			}
		}
	}
	if err := a.AddAll(all, nil); err != nil {
		t.Fatal(err)
	}
	names, err := a.Names()
	if err != nil {
		t.Fatal(err)
	}
	today := w.intel.Endorsements(t, dcaptest.CollateralOptions{TDX: true, Revoked: other.Chain[:1]})
	later := dcaptest.At.AddDate(0, 0, 1)
	seen, refused := map[string]bool{}, 0
	err = a.ImpactAll(t.Context(), verifier(), today, later, func(name string, got *record.Impact) error {
		want, err := a.Impact(verifier(), name, today, later)
		if err != nil || !reflect.DeepEqual(got, want) || seen[name] {
			t.Errorf("%s: %+v, want %+v, %v", name, got, want, err)
		}
		seen[name] = true
		if got != nil {
			refused++
		}
		return nil
	})
	if err != nil || len(seen) != len(names) || refused == 0 || refused > len(names)/2 {
		t.Errorf("%d of %d records, %d refused, %v", len(seen), len(names), refused, err)
	}
}

// TestImpactAllStops at what yield or the context says, and at a record whose
// evidence is gone.
func TestImpactAllStops(t *testing.T) {
	dir, names := filled(t, 600)
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	for _, n := range []int{1, 256, 257, 600} {
		seen := 0
		err = a.ImpactAll(t.Context(), verifier(), tee.Endorsements{}, at0, func(name string, _ *record.Impact) error {
			if names[seen] != name {
				t.Errorf("record %d is %s", seen, name)
			}
			if seen++; seen == n {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || seen != n {
			t.Errorf("%d records, %v", seen, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = a.ImpactAll(ctx, verifier(), tee.Endorsements{}, at0, func(string, *record.Impact) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	w := newWorld(t)
	c := w.cases(t)["accepted"]
	r, _, _ := record.Judge(verifier(), c)
	if _, err := a.Add(c, r); err != nil {
		t.Fatal(err)
	}
	c.Evidence = w.p.Evidence(t, dcaptest.QuoteOptions{Type: dcap.TD10Body})
	missing, _, _ := record.Judge(verifier(), c)
	missing.Endorsements = "none"
	if _, err := a.Add(record.Case{Evidence: c.Evidence, Input: c.Input, Policy: c.Policy}, missing); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = a.ImpactAll(t.Context(), verifier(), tee.Endorsements{}, at0, func(string, *record.Impact) error { seen++; return nil })
	if seen != 601 || !errors.Is(err, record.ErrArchive) {
		t.Errorf("%d records, %v", seen, err)
	}
}
