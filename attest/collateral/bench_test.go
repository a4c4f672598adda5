package collateral_test

import (
	"testing"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// BenchmarkShelf is a look for a platform's collateral that is there.
func BenchmarkShelf(b *testing.B) {
	v, vendor := newVendor(b)
	ev := v.platform.Evidence(b, dcaptest.QuoteOptions{})
	p, _ := collateral.PlatformOf(ev)
	items, err := collateral.Sources{Intel: intelClient(vendor)}.Fetch(b.Context(), p)
	if err != nil {
		b.Fatal(err)
	}
	var shelf collateral.Shelf
	if err := shelf.Add(items...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shelf.For(ev, dcaptest.At); err != nil {
			b.Fatal(err)
		}
	}
}
