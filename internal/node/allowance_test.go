package node

import (
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
)

// TestAllowance: so many bytes at once, so many a day, and what was missed is said
// once.
func TestAllowance(t *testing.T) {
	var a allowance
	now := time.Unix(1e9, 0)
	const piece = 1 << 20
	take := func() (n int) {
		t.Helper()
		for {
			if _, ok := a.take(piece, now); !ok {
				return n
			}
			n++
		}
	}
	if n := take(); n != refusalsAtOnce/piece {
		t.Errorf("%d at once", n)
	}
	a.miss()
	now = now.Add(24 * time.Hour / (refusalsPerDay / piece))
	if missed, ok := a.take(piece, now); !ok || missed != 2 {
		t.Errorf("%d missed, %v", missed, ok)
	}
	// A flood does not keep it from filling again.
	n, end := 0, now.Add(24*time.Hour)
	for ; now.Before(end); now = now.Add(time.Second / 2) {
		if missed, ok := a.take(piece, now); ok {
			n++
			if missed == 0 {
				t.Fatal("nothing was missed before")
			}
		}
	}
	if n < refusalsPerDay/piece-1 || n > refusalsPerDay/piece+1 {
		t.Errorf("%d in a day", n)
	}
	now = now.Add(-48 * time.Hour) // a clock that is set back gives nothing
	if n := take(); n > 1 {
		t.Errorf("%d in the past", n)
	}
	now = now.Add(365 * 24 * time.Hour)
	if n := take(); n != refusalsAtOnce/piece {
		t.Errorf("%d after a year", n)
	}
}

func TestSizeOf(t *testing.T) {
	c := record.Case{Evidence: tee.Evidence{Data: make([]byte, 1000), EventLog: make([]byte, 200), Certificates: [][]byte{make([]byte, 30)}}}
	bare := sizeOf(record.Case{})
	if got := sizeOf(c) - bare; got != 1230 {
		t.Errorf("%d bytes of evidence", got)
	}
	c.Provider = &record.Provider{Policy: make([]byte, 5), Request: make([]byte, 2000)}
	if got := sizeOf(c) - bare; got != 3235 {
		t.Errorf("%d bytes with a request", got)
	}
}
