package record

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// ImpactAll is [Archive.Impact] for every record, with all processors: yield is
// called once for each, one at a time, with the name and what Impact would return.
// The order is that of Names for records in files of their own, and then that in
// which they were added. Records that share evidence, certificates, policy and
// report data are judged once.
//
// It ends with the first error of a record, of yield, or of the context; then yield
// has been called for all records before. Beside a *TornError the survey is
// complete: what that speaks of was never acknowledged. A few segments of some
// 64 MiB are in memory at a time, and about 100 bytes for each record and each evidence.
func (a *Archive) ImpactAll(ctx context.Context, v *attest.Verifier, today tee.Endorsements, at time.Time, yield func(name string, i *Impact) error) error {
	files, err := a.files()
	if err != nil {
		return err
	}
	torn := a.refresh()
	if torn != nil && !Torn(torn) {
		return torn
	}
	files = slices.DeleteFunc(files, a.index.has) // the segments have it
	ctx, cancel := context.WithCancel(ctx)
	w := &crew{survey: newSurvey(a, v, today, at), work: make(chan *share), order: make(chan *share, 2*runtime.GOMAXPROCS(0))}
	var running sync.WaitGroup
	running.Go(func() { w.deal(ctx, files) })
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() { w.labour(ctx) })
	}
	err = w.collect(ctx, yield)
	cancel()
	running.Wait()
	return errors.Join(err, torn)
}

// share is some records, in order, and what came of them.
type share struct {
	names   []string
	bodies  [][]byte // nil: in a file of its own
	impacts []*Impact
	err     error // of the record after the last impact
	done    chan struct{}
}

// shareSize is how many records one goes to work with.
const shareSize = 256

// crew is a reader, workers and a collector.
type crew struct {
	survey *survey
	work   chan *share
	order  chan *share
}

// deal reads the records and hands them out.
func (w *crew) deal(ctx context.Context, files []string) {
	defer close(w.order)
	defer close(w.work)
	s := &share{}
	give := func() bool {
		s.done = make(chan struct{})
		full := s
		s = &share{}
		select {
		case w.order <- full:
		case <-ctx.Done():
			return false
		}
		select {
		case w.work <- full:
			return true
		case <-ctx.Done():
			return false
		}
	}
	put := func(name string, body []byte) bool {
		s.names, s.bodies = append(s.names, name), append(s.bodies, body)
		return len(s.names) < shareSize || give()
	}
	for _, name := range files {
		if !put(name, nil) {
			return
		}
	}
	segments, err := w.survey.archive.segments()
	for _, file := range segments {
		if err == nil {
			err = w.survey.archive.each(file, put)
		}
	}
	s.err = err
	if !errors.Is(err, errStopped) {
		give()
	}
}

// errStopped says that nobody wants more.
var errStopped = errors.New("stopped")

// each reads a segment as a whole and gives its records to f, those that are in the
// index and there for the first time, until f returns false.
func (a *Archive) each(file string, f func(name string, body []byte) bool) error {
	b, err := readSegment(filepath.Join(a.dir, records, file))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	for at := 0; at < len(b); {
		e, size, ok := parseHeader(b[at:])
		body := at + segmentHeader
		if !ok || int64(body)+size > int64(len(b)) {
			return nil // torn, or added since: the index has none of it
		}
		end := body + int(size)
		in, where, _, known := a.index.locate(e)
		if known && e.kind == aRecord && in == file && where == int64(body) && !f(hex.EncodeToString(e.name[:]), b[body:end:end]) {
			return errStopped
		}
		at = end
	}
	return nil
}

func readSegment(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > maxSegment {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxSegment)
	}
	b := make([]byte, st.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// labour judges shares.
func (w *crew) labour(ctx context.Context) {
	for s := range w.work {
		for i, name := range s.names {
			if err := ctx.Err(); err != nil {
				s.err = err
				break
			}
			impact, err := w.judge(name, s.bodies[i])
			if err != nil {
				s.err = err
				break
			}
			s.impacts = append(s.impacts, impact)
		}
		s.bodies = nil
		close(s.done)
	}
}

func (w *crew) judge(name string, body []byte) (*Impact, error) {
	if body == nil {
		var err error
		if body, err = w.survey.archive.readFile(records, name); err != nil {
			return nil, err
		}
	}
	return w.survey.impact(name, body)
}

// collect takes the shares in order.
func (w *crew) collect(ctx context.Context, yield func(name string, i *Impact) error) error {
	for s := range w.order {
		select {
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		for i, impact := range s.impacts {
			if err := yield(s.names[i], impact); err != nil {
				return err
			}
		}
		if s.err != nil {
			return s.err
		}
	}
	return ctx.Err()
}
