package collateral_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// TestShelf: what a platform needs is asked for, put on the shelf, found, and
// asked for again when it is stale.
func TestShelf(t *testing.T) {
	v, vendor := newVendor(t)
	intel := v.intel
	ev := v.platform.Evidence(t, dcaptest.QuoteOptions{})
	p, ok := collateral.PlatformOf(ev)
	if !ok || p.TEE != tee.SGX {
		t.Fatalf("%+v, %t", p, ok)
	}
	var shelf collateral.Shelf
	if e, err := shelf.For(ev, dcaptest.At); err != nil || len(e.Collateral) != 0 {
		t.Fatalf("an empty shelf gives %v, %v", e, err)
	}
	if w := shelf.Wanted(t.Context()); len(w) != 1 || w[0] != p {
		t.Fatalf("wanted %v", w)
	}
	sources := collateral.Sources{Intel: intelClient(vendor)}
	items, err := sources.Fetch(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := shelf.Add(items...); err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, and remembered
		e, err := shelf.For(ev, dcaptest.At)
		if err != nil {
			t.Fatal(err)
		}
		in := tee.Input{Endorsements: e, Roots: intel.Roots(), At: dcaptest.At}
		if c, findings, err := sgx.New().Verify(ev, in); err != nil || len(findings) != 0 || c.TCB != tee.TCBUpToDate {
			t.Fatalf("%s, %v, %v", c.TCB, findings, err)
		}
	}
	late := dcaptest.At.AddDate(1, 0, 0)
	if _, err := shelf.For(ev, late); err != nil {
		t.Fatal(err)
	}
	if w := shelf.Wanted(t.Context()); len(w) != 1 {
		t.Errorf("what is stale is not asked for: %v", w)
	}
	again, err := sources.Refresh(t.Context(), items[0])
	if err != nil || again.Digest != items[0].Digest {
		t.Errorf("%v, %v", again, err)
	}
}

// TestShelfKeepsTheNewest: an older answer, which its vendor signed too, does not
// take the place of a newer one.
func TestShelfKeepsTheNewest(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	ev := p.Evidence(t, dcaptest.QuoteOptions{})
	fetch := func(status tee.TCBStatus, issued time.Time) []collateral.Item {
		_, vendor := newVendorOf(t, intel, dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) {
			m["issueDate"] = issued.Format(time.RFC3339)
			m["tcbLevels"].([]any)[0].(map[string]any)["tcbStatus"] = status
		}})
		platform, _ := collateral.PlatformOf(ev)
		items, err := collateral.Sources{Intel: intelClient(vendor)}.Fetch(t.Context(), platform)
		if err != nil {
			t.Fatal(err)
		}
		return items
	}
	older, newer := fetch(tee.TCBUpToDate, dcaptest.At.AddDate(0, 0, -3)), fetch(tee.TCBOutOfDate, dcaptest.At.AddDate(0, 0, -2))
	var shelf collateral.Shelf
	for _, items := range [][]collateral.Item{older, newer, older} {
		if err := shelf.Add(items...); err != nil {
			t.Fatal(err)
		}
	}
	e, err := shelf.For(ev, dcaptest.At)
	if err != nil {
		t.Fatal(err)
	}
	r, err := new(dcap.Verifier).Verify(tee.SGX, ev, tee.Input{Endorsements: e, Roots: intel.Roots(), At: dcaptest.At})
	if err != nil || r.Status != tee.TCBOutOfDate {
		t.Errorf("%v, %v", r, err)
	}
	broken := newer[0]
	broken.Data = append([]byte(nil), broken.Data...)
	broken.Data[len(broken.Data)/2] ^= 1
	if err := shelf.Add(broken); err == nil {
		t.Error("an item that was altered is taken")
	}
}

func TestWantedWaits(t *testing.T) {
	intel := dcaptest.New(t)
	ev := intel.Platform(t, dcaptest.PlatformOptions{}).Evidence(t, dcaptest.QuoteOptions{})
	synctest.Test(t, func(t *testing.T) {
		var shelf collateral.Shelf
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if w := shelf.Wanted(ctx); w != nil {
			t.Errorf("%v, want to wait until the end", w)
		}
		got := make(chan []collateral.Platform)
		go func() { got <- shelf.Wanted(t.Context()) }()
		synctest.Wait()
		if _, err := shelf.For(ev, dcaptest.At); err != nil {
			t.Error(err)
		}
		if w := <-got; len(w) != 1 {
			t.Errorf("%v", w)
		}
	})
}

// TestPlatformOf reads reports of SEV-SNP, with and without a product.
func TestPlatformOf(t *testing.T) {
	m := snptest.New(t, snp.Milan)
	vcek, vlek := m.VCEK(t, snptest.KeyOptions{}), m.VLEK(t, snptest.KeyOptions{})
	old := vcek.Report()
	old.Version = 2
	for name, c := range map[string]struct {
		ev      tee.Evidence
		product string
		vcek    bool
	}{
		"by a VCEK": {vcek.Evidence(vcek.Report()), "Milan", true},
		"by a VLEK": {vlek.Evidence(vlek.Report()), "Milan", false},
		"version 2": {vcek.Evidence(old), "", true},
	} {
		p, ok := collateral.PlatformOf(c.ev)
		if !ok || p.TEE != tee.SNP || p.Product != c.product || (p.VCEK != "") != c.vcek {
			t.Errorf("%s: %+v, %t", name, p, ok)
		}
	}
	if p, ok := collateral.PlatformOf(tee.Evidence{Data: []byte("junk")}); ok {
		t.Errorf("%+v", p)
	}
}

// TestPlatformsThatNoEvidenceNames are not asked about: their names would become
// parts of URLs.
func TestPlatformsThatNoEvidenceNames(t *testing.T) {
	for _, p := range []collateral.Platform{
		{}, {TEE: tee.Nitro}, {TEE: tee.SGX, FMSPC: "../../../", Authority: "platform"}, {TEE: tee.SGX, FMSPC: "00606a000000", Authority: "x"},
		{TEE: tee.SGX, FMSPC: "00606a000000", Authority: "platform", Product: "Milan"}, {TEE: tee.SNP, Product: "Rome"},
		{TEE: tee.SNP, Product: "Milan", VCEK: "Milan/../../x"}, {TEE: tee.SNP, Product: "Milan", VCEK: "Genoa/00"}, {TEE: tee.SNP},
	} {
		if items, err := (collateral.Sources{}).Fetch(t.Context(), p); err == nil {
			t.Errorf("%+v: %v", p, items)
		}
	}
}
