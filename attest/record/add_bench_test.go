package record_test

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
)

// BenchmarkAddAll adds records of evidence that no other record has, 16 at a time.
func BenchmarkAddAll(b *testing.B) {
	a, err := record.OpenArchive(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	c, r := small(0)
	n := uint64(0)
	for b.Loop() {
		err := a.AddAll(func(yield func(record.Case, record.Record) bool) {
			for range 16 {
				n++
				c.Evidence.Data = binary.BigEndian.AppendUint64(make([]byte, 2000, 2008), n)
				c, r := c, r
				r.TokenID = strconv.FormatUint(n, 10)
				d := attest.DigestEvidence(c.Evidence)
				r.Evidence = hex.EncodeToString(d[:])
				if !yield(c, r) {
					return
				}
			}
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/record")
}
