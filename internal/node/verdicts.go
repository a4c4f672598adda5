package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/internal/datadir"
)

// maxWaiting is how many records may wait to be written; then requests do.
const maxWaiting = 1024

// errNoVerdicts is what a request gets when records cannot be written any more.
var errNoVerdicts = errors.New("records of verdicts cannot be written: the node ends")

// verdicts keeps records of verdicts in an archive on the host's disk. The host
// can lose records, and not change one that a receipt names unnoticed.
type verdicts struct {
	keep    datadir.Keep
	archive *record.Archive
	queue   chan waiting
	stop    chan struct{}
	end     context.CancelCauseFunc // ends the node, whose disk refuses writes
	writer  sync.WaitGroup

	refusals allowance
	logger   *slog.Logger
}

// waiting is a record that is to be written.
type waiting struct {
	c record.Case
	r record.Record
}

// openVerdicts opens the archive in a state directory and keeps in it what the
// host says there.
func openVerdicts(state string, end context.CancelCauseFunc, logger *slog.Logger) (*verdicts, error) {
	keep, err := datadir.ReadKeep(state)
	if err != nil {
		return nil, err
	}
	v := &verdicts{keep: keep, queue: make(chan waiting, maxWaiting), stop: make(chan struct{}), end: end, logger: logger}
	if keep == datadir.KeepNone {
		return v, nil
	}
	if v.archive, err = record.OpenArchive(filepath.Join(state, datadir.VerdictsDir)); err != nil {
		return nil, err
	}
	v.writer.Go(v.write)
	return v, nil
}

// released keeps the verdicts behind releases. A release of no keys, whose verdict
// names no policy, is an attestation result like others.
func (v *verdicts) released(list []record.Prepared) error {
	if v.keep != datadir.KeepAll {
		list = slices.DeleteFunc(list, func(p record.Prepared) bool { return p.Record().Policy == "" })
	}
	err := v.archive.AddPrepared(list)
	if err != nil {
		v.end(fmt.Errorf("keep records of verdicts: %w", err))
	}
	return err
}

// issued keeps the verdict behind an attestation result, if those are kept too,
// and does not wait for the disk.
func (v *verdicts) issued(c record.Case, proven *attest.Verified, tokenID string) error {
	if v.keep != datadir.KeepAll {
		return nil
	}
	r := record.Of(c, proven, nil)
	r.TokenID = tokenID
	return v.put(waiting{c, r})
}

// refuse keeps the verdict that led to no attestation result, if those are kept too.
func (v *verdicts) refuse(c record.Case, proven *attest.Verified, err error) {
	if v.keep == datadir.KeepAll {
		v.refused(c, record.Of(c, proven, err))
	}
}

// refused keeps a refusal, if there is room: anybody can ask for one.
func (v *verdicts) refused(c record.Case, r record.Record) {
	missed, ok := v.refusals.take(sizeOf(c), time.Now())
	if !ok {
		return
	}
	if missed > 0 {
		v.logger.Warn("refusals were not recorded: there were too many", slog.Int("refusals", missed))
	}
	select {
	case v.queue <- waiting{c, r}:
	default:
		v.refusals.miss()
	}
}

// judged keeps a verdict of an attestation provider.
func (v *verdicts) judged(c record.Case, r record.Record) error {
	if r.Accepted {
		return v.put(waiting{c, r})
	}
	v.refused(c, r)
	return nil
}

func (v *verdicts) put(w waiting) error {
	select {
	case v.queue <- w:
		return nil
	case <-v.stop:
		return errNoVerdicts
	}
}

// write writes what waits, all that there is at a time, until it is to stop or the
// disk refuses.
func (v *verdicts) write() {
	for {
		select {
		case first := <-v.queue:
			if err := v.writeAll(first); err != nil {
				v.end(fmt.Errorf("keep records of verdicts: %w", err))
				return
			}
		case <-v.stop:
			return
		}
	}
}

func (v *verdicts) writeAll(first waiting) error {
	return v.archive.AddAll(func(yield func(record.Case, record.Record) bool) {
		for w, n := first, 1; yield(w.c, w.r) && n < maxWaiting; n++ {
			select {
			case w = <-v.queue:
			default:
				return
			}
		}
	}, nil)
}

// close writes what waits.
func (v *verdicts) close() error {
	close(v.stop)
	v.writer.Wait()
	select {
	case first := <-v.queue:
		return v.writeAll(first)
	default:
		return nil
	}
}
