package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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
	c       record.Case
	r       record.Record
	written chan<- written // nil: nobody waits for it
}

// written is what became of a record: its name once it is on the disk, or why not.
type written struct {
	name string
	err  error
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

// released keeps the verdict behind a release, and returns its record's name once
// it is on the disk. A release of no keys is an attestation result like others.
func (v *verdicts) released(c record.Case, r record.Record) (string, error) {
	if c.Policy == nil && v.keep != datadir.KeepAll {
		return "", nil
	}
	written := make(chan written, 1)
	if err := v.put(waiting{c, r, written}); err != nil {
		return "", err
	}
	select {
	case w := <-written:
		return w.name, w.err
	case <-v.stop:
		return "", errNoVerdicts
	}
}

// issued keeps the verdict behind an attestation result, if those are kept too,
// and does not wait for the disk.
func (v *verdicts) issued(c record.Case, proven *attest.Verified, tokenID string) error {
	if v.keep != datadir.KeepAll {
		return nil
	}
	r := record.Of(c, proven, nil)
	r.TokenID = tokenID
	return v.put(waiting{c, r, nil})
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
	case v.queue <- waiting{c, r, nil}:
	default:
		v.refusals.miss()
	}
}

// judged keeps a verdict of an attestation provider.
func (v *verdicts) judged(c record.Case, r record.Record) error {
	if r.Accepted {
		return v.put(waiting{c, r, nil})
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
	var batch []waiting
	var names []string
	err := v.archive.AddAll(func(yield func(record.Case, record.Record) bool) {
		for w := first; ; {
			batch = append(batch, w)
			if !yield(w.c, w.r) || len(batch) == maxWaiting {
				return
			}
			select {
			case w = <-v.queue:
			default:
				return
			}
		}
	}, func(name string) { names = append(names, name) })
	for i, w := range batch {
		if w.written == nil {
			continue
		}
		if i < len(names) { // those are on the disk, whatever happened to the others
			w.written <- written{name: names[i]}
		} else {
			w.written <- written{err: cmp.Or(err, errNoVerdicts)}
		}
	}
	return err
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
