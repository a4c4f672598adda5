package record_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/attest/record"
)

// FuzzSegment: whatever a segment holds, what is read of it was written as a whole,
// adding behind a good end keeps all, and nothing is lost without an error.
func FuzzSegment(f *testing.F) {
	two := record.AppendEvidence(record.AppendRecord(nil, []byte("one")), []byte("two"))
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Add(append(bytes.Clone(two), make([]byte, 100)...))
	f.Add(append([]byte("clrc"), two...))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, bodies, end, err := record.Scan(b)
		if err != nil && !errors.Is(err, record.ErrArchive) || (err == nil) != (end == int64(len(b))) || end < 0 || end > int64(len(b)) {
			t.Fatalf("%d of %d bytes, error %v", end, len(b), err)
		}
		total := 0
		for _, body := range bodies {
			total += 40 + len(body)
		}
		if int64(total) != end {
			t.Fatalf("%d bytes of records, %d good", total, end)
		}
		if n := len(bodies); n > 0 && err == nil && sha256.Sum256(bodies[n-1]) != names[n-1] {
			t.Fatal("the last record is not what it says")
		}
		if err != nil {
			return
		}
		if again, _, _, err := record.Scan(record.AppendRecord(b, []byte("next"))); err != nil || len(again) != len(names)+1 {
			t.Fatalf("%d records after adding one to %d, %v", len(again), len(names), err)
		}
	})
}
