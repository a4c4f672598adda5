package main

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// million is what the bar is about.
const million = 1_000_000

// impact asks which of a million past verdicts today's collateral would refuse: of
// TDs on 20,000 platforms, each with evidence of its own that was recorded 50 times,
// and one platform in a hundred revoked since. Quick is a twentieth of it. Beside
// it are the bare signature checks of as many records, and records that share less:
// the same platforms with new evidence each time, and nothing at all.
func (b *bench) impact() ([]figure, error) {
	platforms, each := 20_000, 50
	if b.quick {
		platforms = 1000
	}
	fresh, err := newPast(filepath.Join(b.dir, "fresh"), platforms/each, each)
	if err != nil {
		return nil, err
	}
	known, err := fresh.survey(platforms)
	if err != nil {
		return nil, err
	}
	w, err := newPast(filepath.Join(b.dir, "impact"), platforms, 1)
	if err != nil {
		return nil, err
	}
	alone, err := w.survey(platforms)
	if err != nil {
		return nil, err
	}
	if err := w.repeat(each); err != nil {
		return nil, err
	}
	shared, err := w.survey(platforms * each)
	if err != nil {
		return nil, err
	}
	bare, err := bareChecks(2 * platforms)
	if err != nil {
		return nil, err
	}
	per := func(d time.Duration, n int) float64 { return d.Seconds() / float64(n) * million }
	limit, all := per(bare, platforms), per(shared, platforms*each)
	against := "two P-256 verifications per record"
	return []figure{
		{Name: fmt.Sprintf("impact over %d records, %d evidences", platforms*each, platforms), Value: million / all, Unit: "records/s", Bar: ">= 16,667"},
		{Name: "the same, per million", Value: all, Unit: "s", Against: against, Limit: limit, Ratio: all / limit, Bar: "<= 60 s"},
		{Name: "each with evidence of its own, 50 per platform, per million", Value: per(known, platforms), Unit: "s", Against: against, Limit: limit, Ratio: per(known, platforms) / limit},
		{Name: "each with evidence and a platform of its own, per million", Value: per(alone, platforms), Unit: "s", Against: against, Limit: limit, Ratio: per(alone, platforms) / limit},
	}, nil
}

// past is an archive with what it is asked with.
type past struct {
	archive *record.Archive
	dir     string
	today   tee.Endorsements
	revoked int
	cases   []record.Case
	records []record.Record
}

// newPast records verdicts about evidence of platforms, each of which gave it so
// many times.
func newPast(dir string, platforms, times int) (*past, error) {
	tb := &testing.T{} // for makers of test evidence, which end this goroutine if they fail
	intel := dcaptest.New(tb)
	w := &past{dir: dir, cases: make([]record.Case, platforms*times), records: make([]record.Record, platforms*times)}
	var err error
	if w.archive, err = record.OpenArchive(dir); err != nil {
		return nil, err
	}
	policy := attest.HardwareDefault()
	in := intel.Input(tb, dcaptest.CollateralOptions{TDX: true})
	v := attest.NewVerifier(tdx.New())
	var revoked []*x509.Certificate
	for i := range platforms {
		var ppid [16]byte
		binary.BigEndian.PutUint64(ppid[:], uint64(i)+1)
		p := intel.Platform(tb, dcaptest.PlatformOptions{PPID: ppid})
		if i%100 == 7 {
			revoked = append(revoked, p.Chain[0])
		}
		for k := range times {
			n := k*platforms + i // as they come, from all platforms
			w.cases[n] = record.Case{Evidence: p.Evidence(tb, dcaptest.QuoteOptions{Type: dcap.TD10Body}), Input: in, Policy: &policy}
			if w.records[n], _, _ = record.Judge(v, w.cases[n]); !w.records[n].Accepted {
				return nil, fmt.Errorf("evidence is refused: %v", w.records[n].Failures)
			}
		}
	}
	w.today, w.revoked = intel.Endorsements(tb, dcaptest.CollateralOptions{TDX: true, Revoked: revoked}), len(revoked)*times
	return w, w.repeat(1)
}

// repeat records every verdict until it is there n times, at other times and with
// other tokens, as it is when evidence is shown again.
func (w *past) repeat(n int) error {
	return w.archive.AddAll(func(yield func(record.Case, record.Record) bool) {
		for k := range n {
			for i, r := range w.records {
				c := w.cases[i]
				r.At = r.At.Add(time.Duration(k) * time.Second)
				r.TokenID = fmt.Sprintf("%08x-%08x", i, k)
				if c.Input.At = r.At; !yield(c, r) {
					return
				}
			}
		}
	}, nil)
}

// survey asks an archive that was opened anew, and checks the answer.
func (w *past) survey(records int) (time.Duration, error) {
	archive, err := record.OpenArchive(w.dir)
	if err != nil {
		return 0, err
	}
	runtime.GC()
	began, seen, refused := time.Now(), 0, 0
	err = archive.ImpactAll(context.Background(), attest.NewVerifier(tdx.New()), w.today, dcaptest.At.AddDate(0, 0, 1), func(_ string, i *record.Impact) error {
		if seen++; i != nil {
			refused++
		}
		return nil
	})
	took := time.Since(began)
	if want := w.revoked * (records / len(w.records)); err == nil && (seen != records || refused != want) {
		err = fmt.Errorf("%d records, %d of them refused: want %d and %d", seen, refused, records, want)
	}
	return took, err
}

// bareChecks is how long n verifications take on all processors.
func bareChecks(n int) (time.Duration, error) {
	check, err := p256Verifications(1)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	var running sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for range workers {
		running.Go(func() {
			for range n / workers {
				check()
			}
		})
	}
	running.Wait()
	if n < workers {
		return 0, errors.New("too few")
	}
	return time.Since(began), nil
}
